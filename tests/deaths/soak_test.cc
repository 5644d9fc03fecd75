// SPDX-License-Identifier: Apache-2.0
// Owns the soak: many agents on one machine call each other while some of them are killed and
// started anew, for MEMPOOL_SOAK_SECONDS.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/agent/agent_pair.h"
#include "tests/deaths/told_process.h"

namespace mempool {
namespace {

using testing::ToldProcess;
using testing::wait_until;

constexpr size_t kAgents = 64;
constexpr size_t kSurvivors = 8;  // the first ones are never killed
constexpr uint64_t kDescriptorsMost =
    400;                             // two sessions with each peer, of two descriptors and spare
constexpr uint64_t kGoodCalls = 10;  // of a new life before the next ones die
constexpr uint64_t kGrowthMostKib = 8192;

/// What a process uses.
struct Use {
  uint64_t threads = 0;
  uint64_t descriptors = 0;
  uint64_t private_kib = 0;
  uint64_t shared_kib = 0;  // the pool, and what is mapped of peers over shm
};

std::chrono::seconds soak_time() {
  const char* given = std::getenv("MEMPOOL_SOAK_SECONDS");
  return std::chrono::seconds(given == nullptr ? 60 : std::atoi(given));
}

class Soak : public ::testing::Test {
 protected:
  /// Start or restart an agent. Half of them take shm where the other one does, too.
  void start(size_t agent) {
    // A host of its own, so that nobody else takes its port between two lives.
    const std::string listen = agent < addresses_.size()
                                   ? addresses_[agent]
                                   : "127.0.1." + std::to_string(agent + 1) + ":0";
    std::vector<std::string> words = {MEMPOOL_CHURNING_AGENT, name(agent), listen,
                                      std::to_string(random_())};
    if (agent % 2 == 0) words.push_back("shm");
    words.push_back("tcp");
    agents_[agent] = std::make_unique<ToldProcess>(std::move(words));
  }
  static std::string name(size_t agent) { return "agent" + std::to_string(agent); }
  void introduce_all_to(size_t agent) {
    for (size_t peer = 0; peer < kAgents; ++peer) {
      if (peer != agent) agents_[agent]->tell("peer " + name(peer) + " " + addresses_[peer]);
    }
  }
  uint64_t good_calls(size_t agent) { return std::stoull("0" + agents_[agent]->ask("report")); }
  Use use(size_t agent) {
    std::istringstream words(agents_[agent]->ask("use"));
    Use result;
    words >> result.threads >> result.descriptors >> result.private_kib >> result.shared_kib;
    return result;
  }
  std::vector<Use> survivors_use() {
    std::vector<Use> result;
    for (size_t agent = 0; agent < kSurvivors; ++agent) result.push_back(use(agent));
    return result;
  }

  /// Kill some at once, start them anew, and let each work before the next ones die.
  void churn_until(std::chrono::steady_clock::time_point end) {
    while (std::chrono::steady_clock::now() < end && !HasFailure()) {
      std::vector<size_t> victims;
      const size_t first = random_();
      for (size_t i = 0; i <= random_() % 4; ++i) {
        victims.push_back(kSurvivors + (first + i) % (kAgents - kSurvivors));
      }
      for (const size_t victim : victims) {
        EXPECT_TRUE(agents_[victim]->runs()) << name(victim) << " has ended by itself";
        agents_[victim]->kill();
      }
      for (const size_t victim : victims) start(victim);
      for (const size_t victim : victims) {
        EXPECT_EQ(agents_[victim]->answer(), addresses_[victim]);
        introduce_all_to(victim);
      }
      for (const size_t victim : victims) {
        EXPECT_TRUE(wait_until([&] { return good_calls(victim) > kGoodCalls; })) << name(victim);
      }
      deaths_ += victims.size();
    }
  }
  /// Let nobody call any more, and see that every block comes back.
  void expect_whole() {
    for (const auto& agent : agents_) EXPECT_EQ(agent->ask("rest"), "OK");
    for (size_t agent = 0; agent < kAgents; ++agent) {
      EXPECT_TRUE(wait_until([&] { return agents_[agent]->ask("state") == "0 0"; }))
          << name(agent) << " keeps blocks and pins: " << agents_[agent]->ask("state");
    }
  }

  std::mt19937 random_{7};
  std::vector<std::unique_ptr<ToldProcess>> agents_ =
      std::vector<std::unique_ptr<ToldProcess>>(kAgents);
  std::vector<std::string> addresses_;
  size_t deaths_ = 0;
};

TEST_F(Soak, many_agents_outlive_the_deaths_of_others_and_grow_by_nothing) {
  for (size_t agent = 0; agent < kAgents; ++agent) start(agent);
  for (const auto& agent : agents_) addresses_.push_back(agent->answer());
  const std::vector<Use> alone = survivors_use();
  for (size_t agent = 0; agent < kAgents; ++agent) introduce_all_to(agent);

  const auto begun = std::chrono::steady_clock::now();
  churn_until(begun + soak_time() / 3);
  const std::vector<Use> warm = survivors_use();
  churn_until(begun + soak_time());
  const std::vector<Use> after = survivors_use();
  expect_whole();

  uint64_t good = 0;
  for (size_t agent = 0; agent < kSurvivors; ++agent) {
    SCOPED_TRACE(name(agent));
    EXPECT_EQ(after[agent].threads, warm[agent].threads);
    EXPECT_LE(after[agent].descriptors, alone[agent].descriptors + kDescriptorsMost);
    EXPECT_LE(after[agent].private_kib, warm[agent].private_kib + kGrowthMostKib);
    good += good_calls(agent);
  }
  std::cout << deaths_ << " deaths, " << good << " good calls of " << kSurvivors
            << " survivors; of the first: " << warm[0].descriptors << " then "
            << after[0].descriptors << " descriptors, " << warm[0].private_kib << " then "
            << after[0].private_kib << " KiB" << std::endl;
  for (size_t agent = 1; agent < kAgents; ++agent) agents_[agent]->kill();
  EXPECT_TRUE(wait_until([&] {
    const Use now = use(0);
    return now.descriptors == alone[0].descriptors && now.shared_kib <= alone[0].shared_kib;
  })) << "of dead peers it keeps "
      << use(0).descriptors - alone[0].descriptors << " descriptors and "
      << use(0).shared_kib - alone[0].shared_kib << " KiB mapped";
}

}  // namespace
}  // namespace mempool
