// SPDX-License-Identifier: Apache-2.0
// Owns the running of the seeds, in shards, and the replay of one by its number.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/simulation/simulation.h"

namespace mempool::simulation {
namespace {

constexpr uint64_t kShards = 8;
constexpr uint64_t kDefaultSeeds = 1000;

std::string current_seed;  // for the handler: an abort cannot ask anyone

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void say_seed(int) {
  std::fputs(current_seed.c_str(), stderr);
  std::signal(SIGABRT, SIG_DFL);
}

/// Run one seed; a failure names it, its options, and how to see it again.
void run_seed(uint64_t seed, bool traced) {
  const SimulationOptions options = options_from(seed);
  current_seed = fmt::format("MEMPOOL_SIM_SEED={}\n{}\n", seed, to_string(options));
  if (traced) fmt::print("{}", current_seed);
  Simulation simulation(options, traced);
  const std::string failure = simulation.run();
  EXPECT_TRUE(failure.empty()) << failure << "\nreplay: " << current_seed;
  EXPECT_TRUE(!failure.empty() || simulation.calls_ended_ok() > 0) << current_seed;
  if (traced)
    fmt::print("{} calls, {} ended well\n", simulation.calls(), simulation.calls_ended_ok());
}

class Simulated : public testing::TestWithParam<uint64_t> {};

TEST_P(Simulated, agents_keep_their_promises_under_faults) {
  std::signal(SIGABRT, say_seed);
  if (std::getenv("MEMPOOL_SIM_SEED") != nullptr) {
    const uint64_t seed = number_from("MEMPOOL_SIM_SEED", 0);
    if (seed % kShards != GetParam()) GTEST_SKIP() << "another shard replays the seed";
    run_seed(seed, true);
    return;
  }
  const uint64_t seeds = number_from("MEMPOOL_SIM_SEEDS", kDefaultSeeds);
  for (uint64_t seed = GetParam(); seed < seeds && !HasFailure(); seed += kShards) {
    run_seed(seed, false);
  }
}

INSTANTIATE_TEST_SUITE_P(Shard, Simulated, testing::Range(uint64_t{0}, kShards));

}  // namespace
}  // namespace mempool::simulation
