// SPDX-License-Identifier: Apache-2.0
// Owns the reading of each section of the settings.
#include "agent/agent_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/config_value.h"
#include "core/listen_socket.h"
#include "core/log.h"

namespace mempool {
namespace {

constexpr size_t kSecretBytesMax = 4096;

constexpr std::pair<std::string_view, ElementType> kElements[] = {
    {"float32", ElementType::kFloat32},        {"float16", ElementType::kFloat16},
    {"bfloat16", ElementType::kBfloat16},      {"float8_e4m3", ElementType::kFloat8E4m3},
    {"float8_e5m2", ElementType::kFloat8E5m2}, {"int8", ElementType::kInt8},
};

uint32_t number(const Config& config, std::string_view key) {
  return static_cast<uint32_t>(config.get_integer(key));  // every bound in the table fits
}

std::chrono::milliseconds delay(const Config& config, std::string_view key) {
  return std::chrono::milliseconds(config.get_integer(key));
}

ContentSpec content_spec(const Config& config) {
  ContentSpec spec;
  spec.model = config.get_string("content.model");
  spec.revision = config.get_string("content.revision");
  spec.adapter = config.get_string("content.adapter");
  for (const auto& [name, element] : kElements) {
    if (name == config.get_string("content.element")) spec.element = element;
  }
  spec.quantization = config.get_string("content.quantization");
  spec.layers = number(config, "content.layers");
  spec.kv_heads = number(config, "content.kv_heads");
  spec.head_size = number(config, "content.head_size");
  spec.mla_rank = number(config, "content.mla_rank");
  spec.tokens_per_block = number(config, "content.tokens_per_block");
  spec.position_encoding = config.get_string("content.position_encoding");
  spec.tenant_salt = config.get_string("content.tenant_salt");
  return spec;
}

Placement placement(const Config& config) {
  Placement result;
  const bool aggregated = config.get_string("placement.form") == "aggregated";
  result.form = aggregated ? BlockForm::kAggregated : BlockForm::kDiscrete;
  const bool by_head = config.get_string("placement.order") == "head_token";
  result.order = by_head ? TokenOrder::kHeadToken : TokenOrder::kTokenHead;
  return result;
}

/// Read a secret, without the line end that editors leave behind it.
Result<std::string> secret_from_file(std::string_view what, const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(kSecretBytesMax + 1, '\0');
  if (!stream.read(text.data(), static_cast<std::streamsize>(text.size())) && !stream.eof()) {
    return not_found(
        fmt::format("{} file {}: cannot read it: {}", what, path, std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(stream.gcount()));
  text.erase(text.find_last_not_of("\r\n") + 1);
  if (text.empty() || text.size() > kSecretBytesMax) {
    return invalid_argument(
        fmt::format("{} file {} holds no secret of 1 to {} bytes", what, path, kSecretBytesMax));
  }
  return text;
}

/// Give a secret from its text or from a file; empty when neither is given.
Result<std::string> secret(std::string_view what, const std::string& text,
                           const std::string& path) {
  if (path.empty()) return text;
  if (text.empty()) return secret_from_file(what, path);
  return invalid_argument(
      fmt::format("the {} and a {} file are both given; leave one out", what, what));
}

Result<std::map<std::string, TenantOptions>> tenants(const Config& config) {
  std::map<std::string, TenantOptions> result;
  for (const std::string& name : config.names("tenants")) {
    const auto key = [&name](std::string_view leaf) {
      return fmt::format("tenants.{}.{}", name, leaf);
    };
    const Result<std::string> salt =
        secret("salt", config.get_string(key("salt")), config.get_string(key("salt_file")));
    if (!salt.ok()) return salt.status().with_context(fmt::format("tenants.{}", name));
    result[name] = {*salt, number(config, key("quota_blocks")),
                    number(config, key("floor_blocks"))};
  }
  return result;
}

/// Give the blocks of the whole pool, from pool.blocks or from pool.bytes.
Result<uint64_t> pool_blocks(const Config& config, uint64_t block_bytes) {
  const auto blocks = static_cast<uint64_t>(config.get_integer("pool.blocks"));
  const uint64_t bytes = config.get_size("pool.bytes");
  const bool default_bytes = bytes == *parse_size(find_config_key("pool.bytes")->fallback);
  if (blocks != 0 && config.given("pool.bytes") && !default_bytes) {
    return invalid_argument("pool.bytes and pool.blocks are both given; leave one out");
  }
  const uint64_t result = blocks != 0 ? blocks : bytes / block_bytes;
  if (result == 0) {
    return invalid_argument(fmt::format("pool.bytes = {} holds no block of {} bytes; give more",
                                        print_size(bytes), block_bytes));
  }
  if (result > BlockAddress::kIndexMax) {
    return invalid_argument(fmt::format("{} has {} blocks, a pool at most {}; give less",
                                        blocks != 0 ? "pool.blocks" : "pool.bytes", result,
                                        BlockAddress::kIndexMax));
  }
  return result;
}

/// Cut the pool into segments whose sizes differ by at most one block.
Result<std::vector<uint32_t>> segment_blocks(const Config& config, const AgentOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Placement> shards,
                           make_shards(options.content, options.placement, options.shards));
  MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout layout,
                           make_layout(options.content, shards.front(), 1));  // each is as large
  uint64_t block_bytes = 0;
  if (__builtin_mul_overflow(layout.block_bytes, shards.size(), &block_bytes)) {
    return invalid_argument("a block of these dimensions in all shards passes 64 bits");
  }
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t blocks, pool_blocks(config, block_bytes));
  const uint64_t segments = number(config, "pool.segments");
  if (segments > blocks) {
    return invalid_argument(fmt::format(
        "pool.segments = {}, the pool has only {} blocks; give fewer segments", segments, blocks));
  }
  std::vector<uint32_t> result;
  for (uint64_t i = 0; i < segments; ++i) {
    result.push_back(static_cast<uint32_t>(blocks / segments + (i < blocks % segments ? 1 : 0)));
  }
  return result;
}

std::string option_text(const Config& config, const ConfigKey& key) {
  switch (key.type) {
    case ConfigType::kSize:
      return fmt::format("{}", config.get_size(key.name));
    case ConfigType::kInteger:
      return fmt::format("{}", config.get_integer(key.name));
    case ConfigType::kBool:
      return config.get_bool(key.name) ? "1" : "0";
    case ConfigType::kList:
      return fmt::format("{}", fmt::join(config.get_list(key.name), ","));
    default:
      return config.get_string(key.name);
  }
}

Status check_address(std::string_view key, const std::string& address) {
  std::string host;
  uint16_t port = 0;
  return split_address(address, host, port).with_context(key);
}

Status check_addresses(const AgentOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(check_address("agent.listen", options.listen));
  if (!options.admin.empty()) {
    MEMPOOL_RETURN_IF_ERROR(check_address("admin.listen", options.admin));
  }
  for (const auto& [name, address] : options.peers) {
    MEMPOOL_RETURN_IF_ERROR(check_address("peers." + name, address));
  }
  return Status();
}

}  // namespace

std::map<std::string, std::string> transport_options(const Config& config) {
  std::map<std::string, std::string> result;
  for (const ConfigKey& key : config_keys()) {
    for (const std::string_view transport : {"shm.", "tcp.", "ucx.", "verbs."}) {
      if (key.name.starts_with(transport)) {
        result[std::string(key.name)] = option_text(config, key);
      }
    }
  }
  return result;
}

Result<std::string> shared_token(const std::string& token, const std::string& path) {
  return secret("token", token, path);
}

Status configure_log(const Config& config) {
  MEMPOOL_ASSIGN_OR_RETURN(const LogLevel level, parse_log_level(config.get_string("log.level")));
  const bool json = config.get_string("log.format") == "json";
  configure_log(level, json ? LogFormat::kJson : LogFormat::kText);
  return Status();
}

Result<AgentOptions> agent_options(const Config& config) {
  AgentOptions options;
  options.name = config.get_string("agent.name");
  options.listen = config.get_string("agent.listen");
  options.admin = config.get_string("admin.listen");
  MEMPOOL_ASSIGN_OR_RETURN(options.token, shared_token(config.get_string("agent.token"),
                                                       config.get_string("agent.token_file")));
  options.transports = config.get_list("agent.transports");
  options.require = config.get_list("agent.require");
  options.transport_options = transport_options(config);
  options.peers = config.get_table("peers");
  options.deliver_arrivals = config.get_bool("agent.deliver_arrivals");
  options.engine_socket = config.get_string("agent.engine_socket");
  MEMPOOL_RETURN_IF_ERROR(check_addresses(options));

  options.content = content_spec(config);
  options.placement = placement(config);
  options.shards = number(config, "pool.shards");
  MEMPOOL_ASSIGN_OR_RETURN(options.segment_blocks, segment_blocks(config, options));
  options.max_blocks = number(config, "pool.max_blocks");
  options.verify = config.get_string("verify.mode");
  options.huge_pages = config.get_string("pool.huge_pages");
  options.eviction = config.get_string("index.eviction");
  options.eviction_ttl = delay(config, "index.ttl_ms");
  options.admission = config.get_string("index.admission");

  MEMPOOL_ASSIGN_OR_RETURN(options.tenants, tenants(config));

  options.max_inbound = number(config, "limits.max_inbound");
  options.max_outbound = number(config, "limits.max_outbound");
  options.max_connections = number(config, "limits.max_connections");
  options.retry_hint = delay(config, "limits.retry_hint_ms");
  options.heartbeat = delay(config, "timeouts.heartbeat_ms");
  options.peer_timeout = delay(config, "timeouts.peer_timeout_ms");
  options.fence_timeout = delay(config, "timeouts.fence_timeout_ms");
  options.retransmit = delay(config, "timeouts.retransmit_ms");
  options.default_deadline = delay(config, "timeouts.default_deadline_ms");
  return options;
}

std::map<std::string, std::string> options_of_transport(const AgentOptions& options,
                                                        const std::string& transport) {
  std::map<std::string, std::string> own;
  for (const auto& [key, value] : options.transport_options) {
    if (key.starts_with(transport + ".")) own[key.substr(transport.size() + 1)] = value;
  }
  return own;
}

uint64_t descriptors_at_start(const AgentOptions& options) {
  constexpr uint64_t kOwn = 32;  // listeners, timers, events, and room for a page or two
  const uint64_t memory = options.segment_blocks.size() * options.shards + 1;  // and generations
  const bool exported = std::ranges::count(options.transports, "shm") > 0;     // opened once more
  return kOwn + (exported ? 2 * memory : memory);
}

uint64_t descriptors_of_peers(const AgentOptions& options) {
  const auto streams = options.transport_options.find("tcp.streams");
  const auto uses = [&](const char* name) {
    return std::ranges::count(options.transports, name) > 0;
  };
  constexpr uint64_t kOfUcx = 7;  // a set-up link, and what UCX opens for a worker
  const bool tcp = uses("tcp");
  const bool set = tcp && streams != options.transport_options.end();
  // A session has one of the transports, and which is not known before.
  const uint64_t data = std::max<uint64_t>(
      set ? std::strtoull(streams->second.c_str(), nullptr, 10) : 1, uses("ucx") ? kOfUcx : 1);
  return options.max_connections * (1 + data);
}

}  // namespace mempool
