// SPDX-License-Identifier: Apache-2.0
// Owns the tests of `mempool agent`: settings, refusals, readiness and a clean end.
#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A pool of 16 blocks that any machine can give.
const std::vector<std::string> kSmallPool = {"--content.layers=1", "--pool.blocks=16"};

std::vector<std::string> with_small_pool(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), kSmallPool.begin(), kSmallPool.end());
  return arguments;
}

CommandResult refused(const std::vector<std::string>& arguments, int exit_code) {
  std::vector<std::string> words = {"agent"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  CommandResult result = run_command(words);
  EXPECT_EQ(result.exit_code, exit_code) << result.errors;
  EXPECT_EQ(result.output, "");
  return result;
}

TEST(AgentCommand, unknown_key_in_the_file_is_refused_with_line_and_nearest_key) {
  const std::string path = write_file("unknown.toml", "[pool]\nbites = \"1GiB\"\n");
  const CommandResult result = refused({"--config", path}, 2);
  EXPECT_THAT(result.errors, HasSubstr(path + ":2"));
  EXPECT_THAT(result.errors, HasSubstr("did you mean \"pool.bytes\"?"));
}

TEST(AgentCommand, unknown_key_in_a_flag_is_refused) {
  EXPECT_THAT(refused({"--pool.bites", "1GiB"}, 2).errors, HasSubstr("pool.bytes"));
  EXPECT_THAT(refused({"--set", "pool.bites=1GiB"}, 2).errors, HasSubstr("pool.bytes"));
}

TEST(AgentCommand, option_that_is_no_setting_is_refused) {
  EXPECT_THAT(refused({"--print-konfig"}, 2).errors, HasSubstr("--print-konfig"));
  EXPECT_THAT(refused({"pool.bytes=1GiB"}, 2).errors, HasSubstr("pool.bytes=1GiB"));
}

TEST(AgentCommand, flag_without_a_value_is_refused) {
  EXPECT_THAT(refused({"--pool.bytes"}, 2).errors, HasSubstr("--pool.bytes needs a value"));
}

TEST(AgentCommand, file_that_is_not_there_is_a_failure) {
  EXPECT_THAT(refused({"--config", "/nowhere.toml"}, 1).errors, HasSubstr("/nowhere.toml"));
}

TEST(AgentCommand, pool_that_the_machine_cannot_give_is_refused_before_it_is_touched) {
  EXPECT_THAT(refused({"--pool.bytes", "500TiB"}, 1).errors, StartsWith("mempool: "));
}

TEST(AgentCommand, pool_without_a_block_is_refused_with_the_size_of_one) {
  EXPECT_THAT(refused({"--pool.bytes", "1KiB"}, 2).errors,
              HasSubstr("holds no block of 2097152 bytes"));
}

TEST(AgentCommand, bytes_and_blocks_exclude_each_other) {
  EXPECT_THAT(refused({"--pool.bytes=2GiB", "--pool.blocks=4"}, 2).errors,
              HasSubstr("leave one out"));
}

TEST(AgentCommand, bind_beyond_loopback_needs_a_token) {
  const CommandResult result = refused(with_small_pool({"--agent.listen", "0.0.0.0:0"}), 1);
  EXPECT_THAT(result.errors, HasSubstr("token"));
}

TEST(AgentCommand, address_that_is_none_is_refused_by_its_key) {
  EXPECT_THAT(refused(with_small_pool({"--agent.listen", "here"}), 2).errors,
              HasSubstr("agent.listen"));
  EXPECT_THAT(refused(with_small_pool({"--peers.decode0", "there"}), 2).errors,
              HasSubstr("peers.decode0"));
}

TEST(AgentCommand, token_file_without_a_token_is_refused) {
  const std::string empty = write_file("empty.token", "\n");
  EXPECT_THAT(refused({"--agent.token_file", empty}, 2).errors, HasSubstr(empty));
  EXPECT_THAT(refused({"--agent.token_file", "/nowhere"}, 1).errors, HasSubstr("/nowhere"));
  EXPECT_THAT(refused({"--agent.token_file", empty, "--agent.token=x"}, 2).errors,
              HasSubstr("leave one out"));
}

TEST(AgentCommand, unknown_transport_that_is_required_fails_the_start) {
  const CommandResult result =
      refused(with_small_pool({"--agent.transports=pigeon,tcp", "--agent.require=pigeon"}), 1);
  EXPECT_THAT(result.errors, HasSubstr("pigeon"));
}

TEST(AgentCommand, printed_settings_read_back_as_they_are) {
  const CommandResult first =
      run_command({"agent", "--print-config", "--pool.blocks=77", "--peers.d0=10.0.0.7:7070",
                   "--agent.transports=verbs,tcp", "--tcp.send_buffer=4MiB"});
  ASSERT_EQ(first.exit_code, 0) << first.errors;
  EXPECT_THAT(first.output, HasSubstr("blocks = 77"));
  const std::string path = write_file("printed.toml", first.output);
  const CommandResult second = run_command({"agent", "--config", path, "--print-config"});
  EXPECT_EQ(second.exit_code, 0) << second.errors;
  EXPECT_EQ(second.output, first.output);
}

TEST(AgentCommand, flag_wins_over_environment_and_environment_over_file) {
  const std::string path =
      write_file("order.toml", "[agent]\nname = \"file\"\n[tcp]\nstreams = 2\nport = 2\n");
  const CommandResult result =
      run_command({"agent", "--config", path, "--agent.name", "flag", "--print-config"},
                  {"MEMPOOL_AGENT_NAME=environment", "MEMPOOL_TCP_STREAMS=3"});
  EXPECT_THAT(result.output, HasSubstr("name = \"flag\""));
  EXPECT_THAT(result.output, HasSubstr("streams = 3"));
  EXPECT_THAT(result.output, HasSubstr("port = 2"));
}

TEST(AgentCommand, printed_settings_hide_the_token) {
  const CommandResult result =
      run_command({"agent", "--agent.token", "open sesame", "--print-config"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.output, Not(HasSubstr("sesame")));
}

TEST(AgentCommand, agent_ends_cleanly_on_both_signals) {
  for (const int signal : {SIGTERM, SIGINT}) {
    BackgroundAgent agent(with_small_pool({}));
    EXPECT_THAT(agent.ready("listen"), StartsWith("127.0.0.1:"));
    EXPECT_EQ(agent.end(signal), 0);
  }
}

TEST(AgentCommand, records_of_the_json_log_are_json) {
  const std::string log = write_file("blocked.toml", "[log]\nformat = \"json\"\n");
  const CommandResult result = run_command(
      {"agent", "--config", log, "--content.layers=1", "--pool.blocks=16", "--pool.huge_pages=off",
       "--agent.transports=pigeon,tcp", "--agent.require=pigeon"});
  const std::string first = result.errors.substr(0, result.errors.find('\n'));
  const auto record = nlohmann::json::parse(first, nullptr, false);
  ASSERT_TRUE(record.is_object()) << result.errors;
  EXPECT_EQ(record.at("level"), "warning");
}

}  // namespace
}  // namespace mempool
