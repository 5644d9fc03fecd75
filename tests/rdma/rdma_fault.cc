// SPDX-License-Identifier: Apache-2.0
// Owns one cell of the table of faults over RDMA: a transfer between two processes, the fault in
// the middle of it, and the promises afterwards.
//
//   mempool_rdma_fault --fault NAME --transport NAME
#include <algorithm>
#include <charconv>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include "tests/deaths/told_process.h"
#include "tests/rdma/broken_cable.h"

namespace mempool::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kDeadline = 3s;       // of a call that meets a fault
constexpr milliseconds kLongDeadline = 30s;  // of one that shall go well
constexpr milliseconds kBusyMachine = 10s;   // by which an end may be seen late
constexpr milliseconds kGivenUp = 60s;       // only a defect takes it
constexpr milliseconds kBetweenLooks = 5ms;  // an emulated machine has more to do than to answer
constexpr uint64_t kPoolBlocks = 64;         // of told_agent
constexpr int kAttempts = 20;                // to meet a transfer in the middle

/// What the command line asks for.
struct Cell {
  std::string fault;
  std::string transport;
  std::vector<std::string> devices = {"rxa", "rxb"};  // of the source, of the target
  std::vector<std::string> cable = {"va", "vb"};      // the network interfaces below
};

/// The options by which told_agent uses a device of that transport.
std::vector<std::string> device_options(const std::string& transport, const std::string& device) {
  if (transport == "verbs") return {"verbs.devices=" + device};
  // UCX finds its peer by IPv6 only, and soft-RoCE takes its default of 7 retries for endless ones.
  if (transport == "ucx") {
    return {"ucx.tls=rc", "ucx.devices=" + device + ":1",
            "ucx.config=IB_GID_INDEX=0,RC_RETRY_COUNT=6"};
  }
  return {};
}

bool comes_true(const std::function<bool()>& is_true) {
  const auto given_up = steady_clock::now() + kGivenUp;
  while (!is_true()) {
    if (steady_clock::now() > given_up) return false;
    std::this_thread::sleep_for(kBetweenLooks);
  }
  return true;
}

/// told_agent. Thread: confined.
class End : public ToldProcess {
 public:
  End(std::vector<std::string> words) : ToldProcess(std::move(words)), address_(answer()) {}
  const std::string& address() const { return address_; }

  uint64_t count(const std::string& state) {
    const std::string said = ask("count " + state);
    uint64_t blocks = 0;
    const auto [end, error] = std::from_chars(said.data(), said.data() + said.size(), blocks);
    EXPECT_TRUE(error == std::errc() && end == said.data() + said.size()) << said;
    return blocks;
  }
  /// See that all blocks become free: what has arrived is looked at and let go of, and nothing
  /// stays reserved or set aside.
  void expect_everything_back() {
    EXPECT_TRUE(comes_true([this] {
      EXPECT_EQ(ask("settle"), "OK");
      return count("free") == kPoolBlocks;
    })) << count("reserved")
        << " blocks reserved, " << count("quarantined") << " in quarantine";
  }

 private:
  std::string address_;
};

class RdmaFault : public ::testing::Test {
 public:
  static inline Cell cell;

  /// What breaks something under a transfer; it waits for the end of the call where there is one.
  using Break = void (RdmaFault::*)();
  struct NamedBreak {
    std::string_view name;
    Break act;
  };
  static const std::vector<NamedBreak>& breaks();

 protected:
  void SetUp() override {
    source_ = start("source", 0);
    target_ = start("target", 1);
    ASSERT_TRUE(source_->runs() && target_->runs()) << "see above why no agent started";
    introduce();
    ASSERT_NO_FATAL_FAILURE(expect_transfers_work());
  }

  std::unique_ptr<End> start(const std::string& name, size_t device,
                             const std::string& listen = "127.0.0.1:0") const {
    std::vector<std::string> words = {MEMPOOL_TOLD_AGENT, name, cell.transport, listen};
    std::ranges::copy(device_options(cell.transport, cell.devices.at(device)),
                      std::back_inserter(words));
    return std::make_unique<End>(std::move(words));
  }
  void introduce() {
    EXPECT_EQ(source_->ask("peer target " + target_->address()), "OK");
    EXPECT_EQ(target_->ask("peer source " + source_->address()), "OK");
  }

  void begin(const std::string& call, milliseconds deadline) {
    ends_by_ = steady_clock::now() + deadline + kBusyMachine;
    source_->tell(fmt::format("{} target {} {}", call, prompt_, deadline.count()));
  }
  /// See that the call ends by its deadline, well or in a way that is worth another try; give how.
  std::string expect_ended() {
    const std::string how = source_->answer();
    EXPECT_LT(steady_clock::now(), ends_by_);
    EXPECT_THAT(how,
                ::testing::AnyOf("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"));
    fmt::print("a call ended with {}\n", how);
    return how;
  }
  /// Begin to send a prompt, and meet it when the target has reserved its blocks.
  void begin_to_send() {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      ++prompt_;
      begin("send", kDeadline);
      ASSERT_TRUE(comes_true(
          [this] { return target_->count("reserved") + target_->count("published") > 0; }));
      if (target_->count("reserved") > 0) return;
      ASSERT_EQ(expect_ended(), "OK");
      target_->expect_everything_back();
    }
    FAIL() << "every transfer was over before it was met";
  }
  /// See that a call goes well, if not at once: a connection may have to be made anew.
  void expect_success(const std::string& call) {
    std::string how;
    ASSERT_TRUE(comes_true([&] {
      begin(call, kLongDeadline);
      how = expect_ended();
      if (how != "OK") source_->expect_everything_back();
      return how == "OK" || how.empty();
    })) << call;
    ASSERT_EQ(how, "OK") << call;  // or the source is gone
  }
  /// See that a prompt goes there and comes back.
  void expect_transfers_work() {
    ++prompt_;
    ASSERT_NO_FATAL_FAILURE(expect_success("send"));
    ASSERT_NO_FATAL_FAILURE(expect_success("fetch"));
    source_->expect_everything_back();
    target_->expect_everything_back();
  }

  void break_cable() {
    const auto faults = cable_faults();
    const CableFault& fault = *std::ranges::find(faults, cell.fault, &CableFault::name);
    std::optional<BrokenCable> broken(std::in_place, fault, cell.cable);
    std::jthread mending;
    if (fault.lasts > 0ms) {
      mending = std::jthread([&] {
        std::this_thread::sleep_for(fault.lasts);
        broken.reset();
      });
    }
    if (expect_ended() != "OK") return;
    begin("fetch", kDeadline);
    expect_ended();
  }
  void kill_source() {
    source_->kill();
    target_->expect_everything_back();
    source_ = start("source", 0);
    introduce();
  }
  void kill_target() {
    target_->kill();
    expect_ended();
    source_->expect_everything_back();
    target_ = start("target", 1);
    introduce();
  }
  void restart_target() {
    const std::string address = target_->address();
    target_->kill();
    target_ = start("target", 1, address);
    EXPECT_EQ(target_->address(), address);
    expect_ended();
    introduce();
  }
  void stop_source() {
    source_->stop();
    target_->expect_everything_back();
    source_->go_on();
    ends_by_ = steady_clock::now() + kBusyMachine;
    expect_ended();
  }
  void stop_target() {
    target_->stop();
    expect_ended();
    source_->expect_everything_back();
    target_->go_on();
  }

  std::unique_ptr<End> source_;
  std::unique_ptr<End> target_;
  uint32_t prompt_ = 0;  // the first token of the last prompt that was sent
  steady_clock::time_point ends_by_;
};

const std::vector<RdmaFault::NamedBreak>& RdmaFault::breaks() {
  static const std::vector<NamedBreak> all = [] {
    std::vector<NamedBreak> list = {{"kill_source", &RdmaFault::kill_source},
                                    {"kill_target", &RdmaFault::kill_target},
                                    {"restart_target", &RdmaFault::restart_target},
                                    {"stop_source", &RdmaFault::stop_source},
                                    {"stop_target", &RdmaFault::stop_target}};
    for (const CableFault& fault : cable_faults()) {
      list.push_back({fault.name, &RdmaFault::break_cable});
    }
    return list;
  }();
  return all;
}

TEST_F(RdmaFault, amid_a_transfer_breaks_no_promise) {
  ASSERT_NO_FATAL_FAILURE(begin_to_send());
  (this->*std::ranges::find(breaks(), cell.fault, &NamedBreak::name)->act)();
  source_->expect_everything_back();
  target_->expect_everything_back();
  expect_transfers_work();
}

int run(int count, char** words) {
  std::vector<std::string> faults;
  for (const auto& each : RdmaFault::breaks()) faults.emplace_back(each.name);
  CLI::App app("Break something amid a transfer, and see that the promises are kept.");
  Cell& cell = RdmaFault::cell;
  app.add_option("--fault", cell.fault, "What breaks")->required()->check(CLI::IsMember(faults));
  app.add_option("--transport", cell.transport, "Over what the transfer goes")->required();
  app.add_option("--devices", cell.devices, "Of the source, of the target")
      ->delimiter(',')
      ->expected(2)
      ->capture_default_str();
  app.add_option("--cable", cell.cable, "Network interfaces that are broken")
      ->delimiter(',')
      ->capture_default_str();
  CLI11_PARSE(app, count, words);
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace mempool::testing

int main(int count, char** words) {
  ::testing::InitGoogleMock(&count, words);
  return mempool::testing::run(count, words);
}
