// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the way from settings to an agent's options.
#include "agent/agent_config.h"

#include <fstream>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

Result<AgentOptions> options_of(std::string_view toml) {
  return agent_options(Config::parse(toml, "agent.toml").value());
}

std::string refusal(std::string_view toml) {
  const Status status = options_of(toml).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(AgentConfig, nothing_given_makes_an_agent_of_a_gibibyte_on_loopback) {
  const AgentOptions options = options_of("").value();
  EXPECT_EQ(options.listen, "127.0.0.1:0");
  EXPECT_EQ(options.admin, "127.0.0.1:0");
  EXPECT_EQ(options.content.layers, 32u);
  EXPECT_THAT(options.segment_blocks, ElementsAre(512));  // of 2 MiB
  EXPECT_THAT(options.transports, ElementsAre("tcp"));
}

TEST(AgentConfig, every_section_reaches_its_option) {
  const AgentOptions options = options_of(R"(
[agent]
name = "prefill0"
token = "secret"
require = ["tcp"]
deliver_arrivals = false
[content]
element = "float8_e5m2"
mla_rank = 512
kv_heads = 1
tenant_salt = "a"
[placement]
form = "aggregated"
order = "head_token"
[index]
eviction = "s3fifo"
admission = "second_hit"
ttl_ms = 5000
[verify]
mode = "always"
[limits]
max_inbound = 3
max_connections = 5
retry_hint_ms = 7
[timeouts]
peer_timeout_ms = 9
[shm]
copy_threads = 2
[tcp]
streams = 4
send_buffer = "1MiB"
[admin]
listen = ""
[peers]
decode0 = "10.0.0.7:7070"
)")
                                   .value();
  EXPECT_EQ(options.name, "prefill0");
  EXPECT_EQ(options.token, "secret");
  EXPECT_THAT(options.require, ElementsAre("tcp"));
  EXPECT_FALSE(options.deliver_arrivals);
  EXPECT_EQ(options.content.element, ElementType::kFloat8E5m2);
  EXPECT_EQ(options.content.mla_rank, 512u);
  EXPECT_EQ(options.content.tenant_salt, "a");
  EXPECT_EQ(options.placement.form, BlockForm::kAggregated);
  EXPECT_EQ(options.placement.order, TokenOrder::kHeadToken);
  EXPECT_EQ(options.verify, "always");
  EXPECT_EQ(options.eviction, "s3fifo");
  EXPECT_EQ(options.admission, "second_hit");
  EXPECT_EQ(options.eviction_ttl, std::chrono::seconds(5));
  EXPECT_EQ(options.max_inbound, 3u);
  EXPECT_EQ(options.max_connections, 5u);
  EXPECT_EQ(options.retry_hint.count(), 7);
  EXPECT_EQ(options.peer_timeout.count(), 9);
  EXPECT_EQ(options.transport_options.at("shm.copy_threads"), "2");
  EXPECT_EQ(options.transport_options.at("tcp.streams"), "4");
  EXPECT_EQ(options.transport_options.at("tcp.send_buffer"), "1048576");
  EXPECT_EQ(options.admin, "");
  EXPECT_THAT(options.peers, ElementsAre(Pair("decode0", "10.0.0.7:7070")));
}

TEST(AgentConfig, every_word_of_a_content_reaches_its_spec) {
  const ContentSpec spec = options_of(R"(
[content]
model = "m"
revision = "r"
adapter = "a"
quantization = "q"
layers = 3
kv_heads = 2
head_size = 64
tokens_per_block = 8
position_encoding = "p"
)")
                               .value()
                               .content;
  EXPECT_EQ(spec.model, "m");
  EXPECT_EQ(spec.revision, "r");
  EXPECT_EQ(spec.adapter, "a");
  EXPECT_EQ(spec.quantization, "q");
  EXPECT_EQ(spec.layers, 3u);
  EXPECT_EQ(spec.kv_heads, 2u);
  EXPECT_EQ(spec.head_size, 64u);
  EXPECT_EQ(spec.tokens_per_block, 8u);
  EXPECT_EQ(spec.position_encoding, "p");
}

TEST(AgentConfig, pool_bytes_are_rounded_down_to_blocks) {
  EXPECT_THAT(options_of("[pool]\nbytes = \"5MiB\"").value().segment_blocks, ElementsAre(2));
}

TEST(AgentConfig, the_pool_holds_as_many_blocks_as_all_shards_have_room_for) {
  const std::string shape =
      "[content]\nlayers = 2\nkv_heads = 2\nhead_size = 8\ntokens_per_block = 4\n"
      "[pool]\nbytes = 65536\nshards = ";  // a block has 512 bytes
  const AgentOptions two = options_of(shape + "2").value();
  EXPECT_EQ(two.shards, 2u);
  EXPECT_THAT(two.segment_blocks, ElementsAre(128));
  EXPECT_THAT(options_of(shape + "4").value().segment_blocks, ElementsAre(64))
      << "each head lies in two shards";
  EXPECT_THAT(refusal(shape + "3"), HasSubstr("2 KV heads do not divide over 3 shards"));
}

TEST(AgentConfig, a_block_that_passes_64_bits_in_all_shards_is_refused) {
  EXPECT_THAT(refusal("[content]\nlayers = 65536\nkv_heads = 65536\nhead_size = 16384\n"
                      "tokens_per_block = 65536\n[pool]\nshards = 64"),
              HasSubstr("64 bits"));
}

TEST(AgentConfig, segments_share_the_blocks_evenly) {
  EXPECT_THAT(options_of("[pool]\nblocks = 8\nsegments = 3").value().segment_blocks,
              ElementsAre(3, 3, 2));
}

TEST(AgentConfig, settings_that_make_no_pool_are_refused_with_their_keys) {
  EXPECT_THAT(refusal("[pool]\nbytes = \"2GiB\"\nblocks = 4"), HasSubstr("leave one out"));
  EXPECT_THAT(refusal("[pool]\nbytes = \"1MiB\""), HasSubstr("no block of 2097152 bytes"));
  EXPECT_THAT(refusal("[pool]\nblocks = 2\nsegments = 3"), HasSubstr("pool.segments"));
  EXPECT_THAT(refusal("[pool]\nbytes = \"700TiB\"\n[content]\nlayers = 1\nkv_heads = 1"),
              HasSubstr("a pool at most"));
}

TEST(AgentConfig, content_that_is_none_is_refused) {
  EXPECT_THAT(refusal("[content]\nmla_rank = 512"), HasSubstr("kv_heads"));
}

TEST(AgentConfig, address_that_is_none_is_refused_by_its_key) {
  EXPECT_THAT(refusal("[agent]\nlisten = \"here\""), HasSubstr("agent.listen"));
  EXPECT_THAT(refusal("[admin]\nlisten = \"here\""), HasSubstr("admin.listen"));
  EXPECT_THAT(refusal("[peers]\nd0 = \"here\""), HasSubstr("peers.d0"));
}

TEST(AgentConfig, tenants_are_tables_with_names_of_their_own) {
  const std::string path = ::testing::TempDir() + "mempool_tenant_salt";
  std::ofstream(path) << "from a file\n";
  const auto tenants = options_of(
                           "[tenants.acme]\nsalt = \"s\"\nquota_blocks = 8\n"
                           "[tenants.\"odd. name\"]\nfloor_blocks = 3\nsalt_file = \"" +
                           path + "\"")
                           .value()
                           .tenants;
  ASSERT_EQ(tenants.size(), 2u);
  EXPECT_EQ(tenants.at("acme").salt, "s");
  EXPECT_EQ(tenants.at("acme").quota_blocks, 8u);
  EXPECT_EQ(tenants.at("acme").floor_blocks, 0u);
  EXPECT_EQ(tenants.at("odd. name").salt, "from a file");
  EXPECT_EQ(tenants.at("odd. name").floor_blocks, 3u);
}

TEST(AgentConfig, a_salt_is_given_once) {
  EXPECT_THAT(refusal("[tenants.acme]\nsalt = \"s\"\nsalt_file = \"f\""),
              HasSubstr("tenants.acme: the salt and a salt file are both given"));
  EXPECT_EQ(options_of("[tenants.acme]\nsalt_file = \"/nowhere\"").status().code(),
            StatusCode::kNotFound);
}

TEST(SharedToken, file_gives_the_secret_without_its_line_end) {
  const std::string path = ::testing::TempDir() + "mempool_shared_token";
  std::ofstream(path) << "open sesame\r\n";
  EXPECT_EQ(shared_token("", path).value(), "open sesame");
  EXPECT_EQ(shared_token("direct", "").value(), "direct");
  EXPECT_EQ(shared_token("", "").value(), "");
  EXPECT_EQ(shared_token("direct", path).status().code(), StatusCode::kInvalidArgument);
  std::ofstream(path, std::ios::trunc) << "\n";
  EXPECT_EQ(shared_token("", path).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(shared_token("", "/nowhere").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace mempool
