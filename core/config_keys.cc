// SPDX-License-Identifier: Apache-2.0
// Owns the table of every setting: its name, type, default and help.
#include "core/config_keys.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "mempool/content.h"

namespace mempool {
namespace {

constexpr int64_t kPortMost = 65535;
constexpr int64_t kDimensionMost = 1 << 20;  // make_content() has the last word
constexpr int64_t kTransfersMost = 1 << 20;
constexpr int64_t kConnectionsMost = 1 << 16;
constexpr int64_t kBufferMost = 1 << 30;
constexpr int64_t kDelayMost = 24 * 3600 * 1000;
constexpr int64_t kTtlMost = 366 * kDelayMost;

// The shapes of a row, so that the table below reads as one.
using Text = std::string_view;
constexpr ConfigKey text(Text name, Text fallback, Text help) {
  return {.name = name, .type = ConfigType::kString, .fallback = fallback, .help = help};
}
constexpr ConfigKey secret(Text name, Text help) {
  return {.name = name, .type = ConfigType::kString, .help = help, .secret = true};
}
constexpr ConfigKey choice(Text name, Text choices, Text fallback, Text help) {
  return {.name = name,
          .type = ConfigType::kString,
          .fallback = fallback,
          .help = help,
          .choices = choices};
}
constexpr ConfigKey integer(Text name, int64_t least, int64_t most, Text fallback, Text help) {
  return {.name = name,
          .type = ConfigType::kInteger,
          .fallback = fallback,
          .help = help,
          .least = least,
          .most = most};
}
constexpr ConfigKey size(Text name, int64_t most, Text fallback, Text help) {
  return {
      .name = name, .type = ConfigType::kSize, .fallback = fallback, .help = help, .most = most};
}
constexpr ConfigKey list(Text name, Text fallback, Text help) {
  return {.name = name, .type = ConfigType::kList, .fallback = fallback, .help = help};
}
constexpr ConfigKey of_type(ConfigType type, Text name, Text fallback, Text help) {
  return {.name = name, .type = type, .fallback = fallback, .help = help};
}

// clang-format off
constexpr ConfigKey kKeys[] = {
    text("agent.name", "agent", "What peers and logs call this instance."),
    text("agent.listen", "127.0.0.1:0",
         "host:port of the control plane; port 0 picks one. Any host but loopback needs a token."),
    secret("agent.token", "Secret that all agents share; token_file keeps it out of this file."),
    text("agent.token_file", "", "File that holds the shared secret, instead of token."),
    list("agent.transports", "tcp",
         "Transports in order of preference; the first that fits wins."),
    list("agent.require", "",
         "Transports without which the agent does not start; then data goes over these alone. rdma "
         "stands for any by which a NIC moves it."),
    text("agent.engine_socket", "",
         "Path of the Unix socket where engines of other processes attach; empty for none."),
    of_type(ConfigType::kBool, "agent.deliver_arrivals", "true",
            "Hand arrivals to an engine; false releases them to the index at once."),
    integer("agent.drain_timeout_ms", 0, kDelayMost, "10000",
            "Time that open transfers have to end after SIGTERM."),

    choice("pool.medium", "host", "host", "Where blocks live."),
    of_type(ConfigType::kSize, "pool.bytes", "1GiB", "Size of the pool, rounded down to blocks."),
    integer("pool.blocks", 0, (1 << 28) - 1, "0", "Size of the pool in blocks; 0 goes by bytes."),
    choice("pool.huge_pages", "auto|off", "auto",
           "Pages of 2 MiB for the pool where enough of them are free."),
    integer("pool.shards", 1, kShardsMax, "1",
            "Tensor-parallel ranks, over which the KV heads are divided."),
    integer("pool.segments", 1, 1024, "1", "Memory segments that the pool is cut into."),
    integer("pool.max_blocks", 0, (1 << 28) - 1, "0",
            "Room for blocks to come while it runs; 0 is twice the pool."),

    text("content.model", "llama-3-8b", "Model whose KV this is; only equal contents share it."),
    text("content.revision", "", "Revision of the weights."),
    text("content.adapter", "", "LoRA or other adapter; empty for none."),
    choice("content.element", "float32|float16|bfloat16|float8_e4m3|float8_e5m2|int8", "float16",
           "Type of one element of the KV."),
    text("content.quantization", "", "Scheme of the KV itself; empty for none."),
    integer("content.layers", 1, kDimensionMost, "32", "Layers of the model."),
    integer("content.kv_heads", 1, kDimensionMost, "8", "KV heads of a layer; 1 with MLA."),
    integer("content.head_size", 0, kDimensionMost, "128", "Elements of one head's vector."),
    integer("content.mla_rank", 0, kDimensionMost, "0",
            "Elements of MLA's one compressed vector; 0 for separate K and V."),
    integer("content.tokens_per_block", 1, kDimensionMost, "16", "Tokens of one block."),
    text("content.position_encoding", "", "Position encoding, where models differ only in it."),
    secret("content.tenant_salt", "Tenants with different salts never share KV."),

    choice("placement.form", "discrete|aggregated", "discrete",
           "How a block lies: each layer's K and V apart, or all of it in one run."),
    choice("placement.order", "token_head|head_token", "token_head", "Order inside one piece."),

    choice("verify.mode", "off|sampled|always", "sampled",
           "Which blocks have their seal checksum checked; sampled is 1 in 64."),
    choice("index.eviction", "lru|s3fifo|lfu|ttl", "lru", "Which unpinned block is evicted first."),
    integer("index.ttl_ms", 1, kTtlMost, "600000",
            "With eviction ttl: how long an unused block stays, room or not."),
    choice("index.admission", "all|second_hit", "all",
           "Which blocks insert() publishes; second_hit those whose tokens were inserted before."),

    integer("limits.max_inbound", 1, kTransfersMost, "64",
            "Transfers that a target holds open or undelivered."),
    integer("limits.max_outbound", 1, kTransfersMost, "1024",
            "Transfers that a source holds open."),
    integer("limits.max_connections", 1, kConnectionsMost, "256",
            "Peers that a source is connected to at once; idle connections make room."),
    integer("limits.retry_hint_ms", 0, kDelayMost, "10", "Wait that a full target advises."),

    integer("timeouts.heartbeat_ms", 1, kDelayMost, "200", "Time between two signs of life."),
    integer("timeouts.peer_timeout_ms", 1, kDelayMost, "2000",
            "Silence after which a peer is lost."),
    integer("timeouts.fence_timeout_ms", 1, kDelayMost, "1000",
            "Time that a peer has to answer a cancel before it is fenced."),
    integer("timeouts.retransmit_ms", 1, kDelayMost, "200",
            "Time after which an unanswered control message is sent again."),
    integer("timeouts.default_deadline_ms", 1, kDelayMost, "30000",
            "Deadline of a transfer that names none."),

    integer("shm.copy_threads", 1, 8, "1",
            "Threads that share one list to be copied; 1 is the agent's own alone."),
    integer("shm.handshake_timeout_ms", 1, 600000, "5000",
            "Time that a new connection has to prove the token."),

    integer("tcp.port", 0, kPortMost, "0", "Port of the data connections; 0 picks one."),
    integer("tcp.streams", 1, 64, "1", "Data connections to one peer."),
    size("tcp.send_buffer", kBufferMost, "0",
         "SO_SNDBUF of a connection; 0 leaves it to the kernel."),
    size("tcp.receive_buffer", kBufferMost, "0",
         "SO_RCVBUF of a connection; 0 leaves it to the kernel."),
    integer("tcp.handshake_timeout_ms", 1, 600000, "5000",
            "Time that a new connection has to prove the token."),

    list("verbs.devices", "auto",
         "RDMA devices, each NAME or NAME:PORT; auto takes those that are up, nearest first."),
    integer("verbs.port", 0, kPortMost, "0", "TCP port of the set-up connections; 0 picks one."),
    integer("verbs.queue_pairs", 1, 16, "1", "Queue pairs to one peer on each device."),
    integer("verbs.queue_depth", 16, 4096, "128", "Work requests posted on one queue pair."),
    integer("verbs.gather", 1, 256, "32",
            "Pieces of one work request, where the device has as many."),
    size("verbs.message_bytes", int64_t{1} << 30, "8MiB", "The most bytes of one work request."),
    integer("verbs.gid_index", -1, 255, "-1",
            "Entry of the port's GID table; -1 picks RoCE v2 before v1, IPv4 before IPv6."),
    integer("verbs.pkey_index", 0, 65535, "0", "Entry of the port's partition key table."),
    integer("verbs.mtu", 0, 4096, "0", "Path MTU in bytes; 0 takes the ports' own."),
    integer("verbs.traffic_class", 0, 255, "0", "Traffic class of RoCE packets (DSCP times 4)."),
    integer("verbs.service_level", 0, 15, "0", "Service level of InfiniBand and RoCE packets."),
    integer("verbs.timeout", 1, 22, "14",
            "Wait for an acknowledgement, 4.096 us times 2 to this power."),
    integer("verbs.retries", 0, 6, "6", "Packets sent again without one before the peer is lost."),
    integer("verbs.receiver_retries", 0, 6, "6",
            "Notifications sent again while the peer has no receive for them."),
    integer("verbs.receives", 16, 32768, "4096",
            "Notifications of all peers that may be on their way to one device."),
    of_type(ConfigType::kBool, "verbs.spin", "false",
            "Poll for completions while any is due, for a whole core; else wait for an event."),
    of_type(ConfigType::kBool, "verbs.self_test", "true",
            "Move a pattern through each device at start and turn off one that changes it."),
    integer("verbs.handshake_timeout_ms", 1, 600000, "5000",
            "Time that a connection has to be set up."),

    text("ucx.tls", "rc",
         "UCX_TLS: the transports that UCX may choose from; others than NICs need trust_peers."),
    text("ucx.devices", "all", "UCX_NET_DEVICES: the devices that UCX may choose from."),
    list("ucx.config", "", "More settings of UCX, each \"NAME=VALUE\" without UCX_ in front."),
    integer("ucx.port", 0, kPortMost, "0", "TCP port of the set-up connections; 0 picks one."),
    size("ucx.message_bytes", int64_t{1} << 30, "8MiB", "The most bytes of one put or get."),
    integer("ucx.calls_in_flight", 1, 4096, "64", "Puts and gets posted to one peer at once."),
    of_type(ConfigType::kBool, "ucx.trust_peers", "false",
            "Allow transports over which other processes write here unchecked, and late when they "
            "were stopped (tcp, sysv, posix, cma)."),
    of_type(ConfigType::kBool, "ucx.self_test", "true",
            "Move patterns at start; turn off what changes them, cut calls to what goes fast."),
    integer("ucx.handshake_timeout_ms", 1, 600000, "5000",
            "Time that a connection has to be set up."),

    text("admin.listen", "127.0.0.1:0", "host:port of /metrics, /healthz, /readyz and /status."),

    choice("log.level", "debug|info|warning|error", "info", "Least severe record written."),
    choice("log.format", "text|json", "text", "Form of a record."),

    of_type(ConfigType::kTable, "peers", "", "Peers known from the start: name = \"host:port\"."),

    secret("tenants.NAME.salt",
           "The tenant_salt of its contents; salt_file keeps it out of this file."),
    text("tenants.NAME.salt_file", "", "File that holds the salt, instead of salt."),
    integer("tenants.NAME.quota_blocks", 0, (1 << 28) - 1, "0",
            "The most blocks it may have, those on their way to it among them; 0 for no limit."),
    integer("tenants.NAME.floor_blocks", 0, (1 << 28) - 1, "0",
            "Blocks of it that are evicted for no other tenant."),
};
// clang-format on

/// Edits that turn one text into the other, by one row of the usual table.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

constexpr std::string_view kNamePart = ".NAME.";

/// What stands before and behind the user's name, with their dots.
std::pair<std::string_view, std::string_view> around_name(const ConfigKey& key) {
  const size_t at = key.name.find(kNamePart);
  return {key.name.substr(0, at + 1), key.name.substr(at + kNamePart.size() - 1)};
}

std::string_view after_dot(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

}  // namespace

std::span<const ConfigKey> config_keys() {
  return kKeys;
}

const ConfigKey* find_config_key(std::string_view name) {
  const auto sets = [name](const ConfigKey& key) {
    if (is_named_table(key)) {
      const auto [before, behind] = around_name(key);
      return name.size() > before.size() + behind.size() && name.starts_with(before) &&
             name.ends_with(behind);
    }
    if (key.type != ConfigType::kTable) return name == key.name;
    return name.starts_with(key.name) && name.substr(key.name.size()).starts_with('.') &&
           name.size() > key.name.size() + 1;
  };
  const auto* const key = std::ranges::find_if(kKeys, sets);
  return key == std::end(kKeys) ? nullptr : key;
}

bool is_named_table(const ConfigKey& key) {
  return key.name.find(kNamePart) != std::string_view::npos;
}

std::string config_name(const ConfigKey& key, std::string_view name) {
  if (!is_named_table(key)) return std::string(key.name);
  const auto [before, behind] = around_name(key);
  return std::string(before).append(name).append(behind);
}

bool is_config_section(std::string_view section) {
  return std::ranges::any_of(kKeys, [section](const ConfigKey& key) {
    return key.name.substr(0, key.name.find('.')) == section;
  });
}

std::string_view nearest_config_name(std::string_view name) {
  // A right key in the wrong section, or in none, is as likely as one letter wrong.
  name = name.substr(0, 64);  // bounds the work for names from outside
  const auto distance = [name](const ConfigKey& key) {
    const size_t misplaced = edit_distance(after_dot(name), after_dot(key.name)) + 1;
    return std::min(edit_distance(name, key.name), misplaced);
  };
  const ConfigKey& nearest = *std::ranges::min_element(kKeys, {}, distance);
  return distance(nearest) <= std::max<size_t>(2, name.size() / 5) ? nearest.name : "";
}

}  // namespace mempool
