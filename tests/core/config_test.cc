// SPDX-License-Identifier: Apache-2.0
// Owns the tests of settings: their sources, their checks and their printed form.
#include "core/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace mempool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

Config parsed(std::string_view toml) {
  return Config::parse(toml, "pool.toml").value();
}

std::string refusal(std::string_view toml) {
  return Config::parse(toml, "pool.toml").status().to_string();
}

TEST(Config, nothing_given_means_the_defaults) {
  const Config config = parsed("");
  EXPECT_EQ(config.get_string("agent.listen"), "127.0.0.1:0");
  EXPECT_EQ(config.get_integer("timeouts.peer_timeout_ms"), 2000);
  EXPECT_TRUE(config.get_bool("agent.deliver_arrivals"));
  EXPECT_THAT(config.get_list("agent.transports"), ElementsAre("tcp"));
  EXPECT_THAT(config.get_list("agent.require"), IsEmpty());
  EXPECT_EQ(config.get_size("pool.bytes"), uint64_t{1} << 30);
  EXPECT_THAT(config.get_table("peers"), IsEmpty());
  EXPECT_FALSE(config.given("pool.bytes"));
}

TEST(Config, every_fallback_is_a_value_that_its_key_takes) {
  const Config config = parsed("");
  for (const ConfigKey& key : config_keys()) {
    if (key.type == ConfigType::kTable) continue;
    const Result<ConfigValue> fallback = parse_config_value(key, key.fallback);
    ASSERT_TRUE(fallback.ok()) << fallback.status().to_string();
    EXPECT_TRUE(check_config_value(key, *fallback).ok()) << key.name;
    EXPECT_EQ(find_config_key(key.name), &key) << "declared twice: " << key.name;
  }
}

TEST(Config, file_sets_values_of_every_type) {
  const Config config = parsed(R"(
[agent]
name = "prefill0"
transports = ["verbs", "tcp"]
deliver_arrivals = false
[pool]
bytes = "3GiB"
[tcp]
streams = 4
[peers]
decode0 = "10.0.0.7:7070"
"decode.1" = "10.0.0.8:7070"
)");
  EXPECT_EQ(config.get_string("agent.name"), "prefill0");
  EXPECT_THAT(config.get_list("agent.transports"), ElementsAre("verbs", "tcp"));
  EXPECT_FALSE(config.get_bool("agent.deliver_arrivals"));
  EXPECT_EQ(config.get_size("pool.bytes"), uint64_t{3} << 30);
  EXPECT_EQ(config.get_integer("tcp.streams"), 4);
  EXPECT_THAT(config.get_table("peers"),
              ElementsAre(Pair("decode.1", "10.0.0.8:7070"), Pair("decode0", "10.0.0.7:7070")));
  EXPECT_TRUE(config.given("peers"));
}

TEST(Config, size_may_be_a_plain_number) {
  EXPECT_EQ(parsed("[pool]\nbytes = 4096").get_size("pool.bytes"), 4096u);
}

TEST(Config, flag_wins_over_environment_and_environment_over_file) {
  const std::string path = ::testing::TempDir() + "mempool_config_test.toml";
  std::ofstream(path) << "[tcp]\nstreams = 2\nport = 2\n[log]\nlevel = \"debug\"\n";
  const Config config = Config::load({.file = path,
                                      .environment = {"HOME=/", "MEMPOOL_TCP_STREAMS=3",
                                                      "MEMPOOL_TCP_PORT=3", "MEMPOOL_SIM_SEEDS=9"},
                                      .flags = {"tcp.streams=4"}})
                            .value();
  EXPECT_EQ(config.get_integer("tcp.streams"), 4);
  EXPECT_EQ(config.get_integer("tcp.port"), 3);
  EXPECT_EQ(config.get_string("log.level"), "debug");
}

TEST(Config, environment_and_flags_set_lists_peers_and_keys_with_underscores) {
  const Config config = Config::load({.environment = {"MEMPOOL_AGENT_TOKEN_FILE=/run/token",
                                                      "MEMPOOL_AGENT_TRANSPORTS=shm,tcp",
                                                      "MEMPOOL_PEERS_DECODE0=a:1"},
                                      .flags = {"peers.decode1=b:2", "agent.name=x=y"}})
                            .value();
  EXPECT_EQ(config.get_string("agent.token_file"), "/run/token");
  EXPECT_THAT(config.get_list("agent.transports"), ElementsAre("shm", "tcp"));
  EXPECT_THAT(config.get_table("peers"),
              ElementsAre(Pair("decode0", "a:1"), Pair("decode1", "b:2")));
  EXPECT_EQ(config.get_string("agent.name"), "x=y");
}

TEST(Config, unknown_key_is_refused_with_its_line_and_the_nearest_known_one) {
  EXPECT_EQ(refusal("[tcp]\nport = 1\nstreems = 2\n"),
            "INVALID_ARGUMENT: pool.toml:3: unknown key \"tcp.streems\"; did you mean "
            "\"tcp.streams\"?");
  EXPECT_THAT(refusal("[agnt]\nname = \"x\""), HasSubstr("did you mean \"agent.name\"?"));
  EXPECT_THAT(refusal("[tcp]\ntransports = []"), HasSubstr("did you mean \"agent.transports\"?"));
  EXPECT_THAT(refusal("streams = 2"), HasSubstr("did you mean \"tcp.streams\"?"));
  EXPECT_THAT(refusal("[nothing]"),
              HasSubstr("pool.toml:1: unknown key \"nothing\"; mempool agent --print-config"));
  EXPECT_THAT(refusal("[\"peers.a\"]\nb = \"c:1\""), HasSubstr("unknown key"));
}

TEST(Config, unknown_variable_of_a_known_section_is_refused) {
  const Status status = Config::load({.environment = {"MEMPOOL_TCP_STREEMS=2"}}).status();
  EXPECT_THAT(status.to_string(), HasSubstr("environment MEMPOOL_TCP_STREEMS: unknown key"));
  EXPECT_THAT(Config::load({.flags = {"tcp.streems=2"}}).status().to_string(),
              HasSubstr("flag tcp.streems: unknown key"));
  EXPECT_THAT(Config::load({.flags = {"tcp.streams"}}).status().to_string(),
              HasSubstr("write it as section.key=value"));
}

TEST(Config, wrong_type_is_refused_with_its_line) {
  EXPECT_EQ(refusal("[tcp]\nport = \"1\""),
            "INVALID_ARGUMENT: pool.toml:2: tcp.port takes an integer");
  EXPECT_THAT(refusal("[agent]\nname = 1"), HasSubstr("agent.name takes a string"));
  EXPECT_THAT(refusal("[agent]\nrequire = [1]"), HasSubstr("takes a list of strings"));
  EXPECT_THAT(refusal("[agent]\ndeliver_arrivals = 1"), HasSubstr("takes true or false"));
  EXPECT_THAT(refusal("[pool]\nbytes = \"3 apples\""), HasSubstr("\"3 apples\" is no size"));
  EXPECT_THAT(refusal("[peers]\na = 7070"), HasSubstr("peers takes entries"));
  EXPECT_THAT(refusal("[peers.a]\nb = \"c:1\""), HasSubstr("peers takes entries"));
  EXPECT_FALSE(Config::load({.flags = {"tcp.port=1x"}}).ok());
  EXPECT_FALSE(Config::load({.flags = {"agent.deliver_arrivals=yes"}}).ok());
}

TEST(Config, value_outside_its_bounds_or_choices_is_refused) {
  EXPECT_THAT(refusal("[tcp]\nport = 65536"), HasSubstr("from 0 to 65535, not 65536"));
  EXPECT_THAT(refusal("[pool]\nbytes = -1"), HasSubstr("not -1"));
  EXPECT_THAT(refusal("[log]\nlevel = \"loud\""),
              HasSubstr("one of debug|info|warning|error, not \"loud\""));
}

TEST(Config, text_that_is_no_toml_is_refused_with_its_line) {
  EXPECT_THAT(refusal("[tcp]\nport = = 1"), HasSubstr("INVALID_ARGUMENT: pool.toml:2: "));
  EXPECT_THAT(refusal("[tcp]\nport = 1\nport = 2"), HasSubstr("pool.toml:3: "));
  EXPECT_THAT(refusal("[*tcp]\nport = 1"), HasSubstr("pool.toml:1: "));
  EXPECT_THAT(refusal("[tcp]\n\u00e9 = 1"), HasSubstr("pool.toml:2: "));
  EXPECT_FALSE(Config::parse(std::string("\xff\xfe\0", 3), "pool.toml").ok());
}

TEST(Config, file_that_cannot_be_read_is_named) {
  const Status status = Config::load({.file = "/nonexistent/pool.toml"}).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.to_string(), HasSubstr("/nonexistent/pool.toml: cannot read it: No such"));
  EXPECT_EQ(Config::load({.file = ::testing::TempDir()}).status().code(), StatusCode::kNotFound);
}

TEST(Config, printed_form_reads_back_to_the_same_settings) {
  const Config config = parsed(
      "[agent]\nname = \"a \\\"b\\\" \\u0007\"\nrequire = [\"x,y\", \"z\"]\n"
      "[pool]\nbytes = \"1536MiB\"\n[peers]\n\"odd name\" = \"h:1\"\n");
  const std::string printed = config.print();
  const Config again = parsed(printed);
  EXPECT_EQ(again.print(), printed);
  EXPECT_EQ(again.get_string("agent.name"), "a \"b\" \a");
  EXPECT_THAT(again.get_list("agent.require"), ElementsAre("x,y", "z"));
  EXPECT_EQ(again.get_size("pool.bytes"), uint64_t{1536} << 20);
  EXPECT_THAT(again.get_table("peers"), ElementsAre(Pair("odd name", "h:1")));
  for (const ConfigKey& key : config_keys()) {
    EXPECT_THAT(printed, HasSubstr(std::string(key.help)));
  }
}

TEST(Config, tables_that_the_user_names_have_every_key) {
  const Config config =
      Config::load({.flags = {"tenants.a.b.salt=x", "tenants.c.quota_blocks=4"}}).value();
  EXPECT_THAT(config.names("tenants"), ElementsAre("a.b", "c"));
  EXPECT_EQ(config.get_string("tenants.a.b.salt"), "x");
  EXPECT_EQ(config.get_integer("tenants.a.b.quota_blocks"), 0);
  EXPECT_EQ(config.get_integer("tenants.c.quota_blocks"), 4);
  EXPECT_THAT(parsed("[tenants.empty]").names("tenants"), ElementsAre("empty"));
  EXPECT_THAT(parsed("").names("tenants"), IsEmpty());
}

TEST(Config, unknown_key_of_a_table_that_the_user_names_is_refused) {
  EXPECT_THAT(refusal("[tenants.acme]\nquota = 3"),
              HasSubstr("pool.toml:2: unknown key \"tenants.acme.quota\""));
  EXPECT_THAT(refusal("[tenants]\nacme = 3"), HasSubstr("unknown key \"tenants.acme\""));
  EXPECT_THAT(refusal("[tenants.acme.salt]\nx = 3"), HasSubstr("takes a string"));
  EXPECT_THAT(refusal("[tenants.acme.more]\nx = 3"), HasSubstr("tenants.acme.more"));
  EXPECT_THAT(refusal("[\"tenants.acme\"]\nsalt = \"x\""), HasSubstr("unknown key"));
  EXPECT_THAT(refusal("[tenants.acme]\nquota_blocks = -1"),
              HasSubstr("pool.toml:2: tenants.NAME.quota_blocks takes a number from 0"));
}

TEST(Config, named_tables_are_printed_to_be_read_back_but_for_their_secrets) {
  const std::string printed =
      parsed("[tenants.\"odd name\"]\nsalt = \"sesame\"\nfloor_blocks = 3\n[tenants.b]").print();
  EXPECT_THAT(printed, HasSubstr("[tenants.\"odd name\"]"));
  EXPECT_THAT(printed, HasSubstr("salt = \"***\""));
  EXPECT_EQ(printed.find("sesame"), std::string::npos);
  const Config again = parsed(printed);
  EXPECT_EQ(again.print(), printed);
  EXPECT_THAT(again.names("tenants"), ElementsAre("b", "odd name"));
  EXPECT_EQ(again.get_integer("tenants.odd name.floor_blocks"), 3);
}

TEST(Config, secret_is_never_printed) {
  const std::string printed = parsed("[agent]\ntoken = \"sesame\"").print();
  EXPECT_THAT(printed, HasSubstr("token = \"***\""));
  EXPECT_EQ(printed.find("sesame"), std::string::npos);
}

TEST(ConfigDeathTest, asking_for_an_undeclared_key_aborts) {
  const Config config = parsed("");
  EXPECT_DEATH((void)config.get_integer("tcp.streems"), "check failed");
  EXPECT_DEATH((void)config.get_integer("agent.name"), "check failed");
}

TEST(ParseSize, reads_binary_and_decimal_units) {
  EXPECT_EQ(parse_size("4096").value(), 4096u);
  EXPECT_EQ(parse_size("3GiB").value(), uint64_t{3} << 30);
  EXPECT_EQ(parse_size("2GB").value(), 2'000'000'000u);
  EXPECT_EQ(parse_size("7B").value(), 7u);
}

TEST(ParseSize, refuses_what_is_no_size_or_does_not_fit) {
  for (const char* text : {"", "GiB", "-1", "3 GiB", "3gib", "1.5GiB", "3GiBs", "8388608TiB",
                           "18446744073709551616"}) {
    EXPECT_FALSE(parse_size(text).ok()) << text;
  }
}

TEST(ParseSize, reads_back_what_print_size_gives) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, uint64_t{1024},
                               uint64_t{1536} << 20, uint64_t{1} << 62}) {
    EXPECT_EQ(parse_size(print_size(bytes)).value(), bytes);
  }
}

}  // namespace
}  // namespace mempool
