// SPDX-License-Identifier: Apache-2.0
// Owns the tests of `mempool status` and of the pages that it and scrapers read.
#include <signal.h>

#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "cli/http_get.h"
#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kTimeout{10000};

HttpPage get(const std::string& address, const std::string& path, const std::string& token = "") {
  const Result<HttpPage> page = http_get(address, path, token, kTimeout);
  EXPECT_TRUE(page.ok()) << page.status().to_string();
  return page.ok() ? *page : HttpPage();
}

/// One agent for all cases of this file.
class StatusCommand : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    agent_ = new BackgroundAgent({"--agent.name=prefill0", "--content.layers=1", "--pool.blocks=16",
                                  "--pool.shards=2", "--peers.decode0=127.0.0.1:1"});
    admin_ = agent_->ready("admin");
  }
  static void TearDownTestSuite() {
    EXPECT_EQ(agent_->end(SIGTERM), 0);
    delete agent_;
  }
  static BackgroundAgent* agent_;
  static std::string admin_;
};
BackgroundAgent* StatusCommand::agent_ = nullptr;
std::string StatusCommand::admin_;

TEST_F(StatusCommand, table_shows_pool_index_peers_and_audit) {
  const CommandResult result = run_command({"status", "--at", admin_});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  for (const char* words :
       {"agent       prefill0", "16 blocks of", "in 2 shards", "free", "index",
        "transports\n  tcp                 open", "peers", "engines     none", "audit       ok"}) {
    EXPECT_THAT(result.output, HasSubstr(words));
  }
}

TEST_F(StatusCommand, json_accounts_for_every_block) {
  const CommandResult result = run_command({"status", "--at", admin_, "--json"});
  const auto status = nlohmann::json::parse(result.output, nullptr, false);
  ASSERT_TRUE(status.is_object()) << result.output;
  uint64_t sum = 0;
  for (const auto& [state, count] : status.at("pool").at("blocks").items()) {
    sum += count.get<uint64_t>();
  }
  EXPECT_EQ(sum, 16u);
  EXPECT_EQ(status.at("pool").at("total"), 16);
  EXPECT_EQ(status.at("audit"), "ok");
}

TEST_F(StatusCommand, metrics_page_declares_the_ten_metrics) {
  const HttpPage page = get(admin_, "/metrics");
  EXPECT_EQ(page.code, 200);
  std::set<std::string> names;
  std::istringstream lines(page.body);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    std::istringstream words(line.substr(7));
    std::string name;
    words >> name;
    names.insert(name);
  }
  for (const char* name :
       {"mempool_blocks", "mempool_transfers_total", "mempool_transfer_bytes_total",
        "mempool_transfer_seconds", "mempool_network_calls_total", "mempool_match_tokens_total",
        "mempool_evictions_total", "mempool_quarantine_blocks", "mempool_stale_rejected_total",
        "mempool_checksum_failures_total"}) {
    EXPECT_TRUE(names.contains(name)) << name << " is not in\n" << page.body;
  }
}

TEST_F(StatusCommand, ready_page_and_status_say_that_transfers_may_come) {
  const HttpPage page = get(admin_, "/readyz");
  EXPECT_EQ(page.code, 200);
  EXPECT_EQ(page.body, "ready\n");
  EXPECT_THAT(run_command({"status", "--at", admin_}).output, HasSubstr("ready       ok"));
}

TEST_F(StatusCommand, health_page_says_ok_and_other_pages_are_404) {
  EXPECT_EQ(get(admin_, "/healthz").body, "ok\n");
  EXPECT_EQ(get(admin_, "/secrets").code, 404);
}

TEST_F(StatusCommand, address_that_is_not_the_admin_port_is_a_failure) {
  const CommandResult result =
      run_command({"status", "--at", agent_->ready("listen"), "--timeout-ms", "2000"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr(agent_->ready("listen")));
}

TEST(StatusOfNobody, agent_that_cannot_be_reached_is_a_failure_by_name) {
  const CommandResult result = run_command({"status", "--at", "127.0.0.1:1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr("127.0.0.1:1"));
}

TEST(StatusOfNobody, address_that_is_none_is_wrong_usage) {
  EXPECT_EQ(run_command({"status", "--at", "nowhere"}).exit_code, 2);
}

TEST(StatusBeyondLoopback, page_is_given_only_for_the_token) {
  const std::string token = write_file("shared.token", "open sesame\n");
  BackgroundAgent agent({"--agent.token_file", token, "--admin.listen=0.0.0.0:0",
                         "--content.layers=1", "--pool.blocks=16"});
  const std::string port = agent.ready("admin").substr(agent.ready("admin").rfind(':'));
  const std::string at = "127.0.0.1" + port;
  const CommandResult stranger = run_command({"status", "--at", at});
  EXPECT_EQ(stranger.exit_code, 1);
  EXPECT_THAT(stranger.errors, HasSubstr("token"));
  EXPECT_EQ(run_command({"status", "--at", at, "--token", "open"}).exit_code, 1);
  EXPECT_EQ(run_command({"status", "--at", at, "--token-file", token}).exit_code, 0);
}

}  // namespace
}  // namespace mempool
