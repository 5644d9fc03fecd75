// SPDX-License-Identifier: Apache-2.0
// Owns the tests of measurements between two hosts, which are two network namespaces.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/command_process.h"
#include "tests/cli/network_namespaces.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

constexpr char kSettings[] = "[agent]\ntoken = \"secret\"\n";

/// A service in the second namespace.
class PerfNamespaces : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!hosts_.refusal().empty()) GTEST_SKIP() << hosts_.refusal();
    serve_ = serve(1, NetworkNamespaces::kSecondHost);
  }

  std::unique_ptr<BackgroundCommand> serve(size_t which, const std::string& host) {
    const std::vector<std::string> words = {"perf",    "serve", "--config",
                                            settings_, "--set", "agent.listen=" + host + ":0"};
    return std::make_unique<BackgroundCommand>(words, hosts_.under(which));
  }

  /// Measure from the first namespace.
  CommandResult measure_to(const std::string& address) {
    return run_command({"perf", "transfer", "--to", address, "--config", settings_, "--transports",
                        "tcp,shm,local", "--op", "write,read", "--piece-bytes", "4KiB", "--pieces",
                        "64", "--repeat", "1", "--json", "-"},
                       {}, hosts_.under(0));
  }

  NetworkNamespaces hosts_;
  const std::string settings_ = write_file("perf.toml", kSettings);
  std::unique_ptr<BackgroundCommand> serve_;
};

TEST_F(PerfNamespaces, tcp_is_measured_and_what_stays_on_one_host_is_refused) {
  const CommandResult result = measure_to(serve_->ready("listen"));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const auto document = nlohmann::json::parse(result.output, nullptr, false);
  ASSERT_TRUE(document.is_object()) << result.output;
  const auto& rows = document.at("rows");
  ASSERT_EQ(rows.size(), 6u);
  for (const size_t tcp : {0, 1}) {
    EXPECT_GT(rows[tcp].at("gb_per_s").at("median"), 0);
    EXPECT_GT(rows[tcp].at("bare_gb_per_s").at("median"), 0);
  }
  for (const size_t shm : {2, 3}) {
    EXPECT_THAT(std::string(rows[shm].at("refused").at("reason")),
                HasSubstr("another network namespace: use tcp"));
  }
  EXPECT_THAT(std::string(rows[4].at("refused").at("reason")), HasSubstr("not in this process"));
}

TEST_F(PerfNamespaces, host_that_does_not_answer_is_one_clear_error) {
  const std::string nobody = std::string(NetworkNamespaces::kNobodysHost) + ":7171";
  const CommandResult result = measure_to(nobody);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, HasSubstr("mempool: " + nobody + ": "));
}

TEST_F(PerfNamespaces, matrix_is_measured_by_hosts_that_this_process_only_asks) {
  const auto first = serve(0, NetworkNamespaces::kFirstHost);
  const std::string hosts = std::string(kSettings) + "[peers]\nfirst = \"" +
                            first->ready("listen") + "\"\nsecond = \"" + serve_->ready("listen") +
                            "\"\n";
  const CommandResult result =
      run_command({"perf", "matrix", "--hosts", write_file("hosts.toml", hosts), "--piece-bytes",
                   "4KiB", "--pieces", "64", "--repeat", "1", "--json", "-"},
                  {}, hosts_.under(0));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const auto document = nlohmann::json::parse(result.output, nullptr, false);
  ASSERT_TRUE(document.is_object()) << result.output;
  const auto& rows = document.at("rows");
  ASSERT_EQ(rows.size(), 2u);
  for (const auto& row : rows) EXPECT_GT(row.at("gb_per_s").at("median"), 0);
  EXPECT_EQ(rows[1].at("from"), "second");
  EXPECT_THAT(serve_->next_line(), HasSubstr("10.77.0.1: write over tcp"));
  EXPECT_THAT(serve_->next_line(), HasSubstr("towards " + first->ready("listen")));
}

}  // namespace
}  // namespace mempool
