// SPDX-License-Identifier: Apache-2.0
// Owns the reading of the ucx backend's options.
#include "transport/ucx/ucx_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/check.h"
#include "transport/number_option.h"
#include "transport/option_list.h"

namespace mempool {
namespace {

// What a peer does over these ends with the worker that served it, so that the fence holds: over rc
// and dc its NIC writes here, under keys; over ud, which rc takes too for setting up, its messages
// are put in place here, whatever address they name, for any host of the fabric. Bytes of self stay
// in this process. Over all others the peer's own process writes here (sysv, posix, cma, knem,
// xpmem, cuda_ipc), or whoever reaches a port may (tcp).
constexpr std::string_view kSafe[] = {"rc",   "rc_v",     "rc_x",    "rc_verbs", "rc_mlx5",
                                      "dc",   "dc_x",     "dc_mlx5", "ud",       "ud_v",
                                      "ud_x", "ud_verbs", "ud_mlx5", "ib",       "self"};

Status read_flag(const std::map<std::string, std::string>& options, const std::string& key,
                 bool& out) {
  uint32_t flag = out ? 1 : 0;
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint32_t>(options, key, 0, 1, flag));
  out = flag == 1;
  return {};
}

// A list reaches a backend with commas between its entries, and a value may have some of its own.
Status read_config(const std::map<std::string, std::string>& options, UcxOptions& out) {
  const auto found = options.find("config");
  if (found == options.end()) return {};
  for (const std::string& part : split_option(found->second)) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos && !out.config.empty()) {
      out.config.back().second += "," + part;
    } else if (equals == 0 || equals == std::string::npos) {
      return invalid_argument(
          fmt::format("config: \"{}\" is no setting; give NAME=VALUE as `ucx_info -c` prints them, "
                      "without UCX_",
                      part));
    } else if (part.starts_with("UCX_")) {
      return invalid_argument(
          fmt::format("config: \"{}\" is named as in the environment; leave UCX_ away", part));
    } else if (part.starts_with("TLS=") || part.starts_with("NET_DEVICES=")) {
      return invalid_argument(
          fmt::format("config: \"{}\" has a key of its own; give ucx.tls or ucx.devices", part));
    } else {
      out.config.emplace_back(part.substr(0, equals), part.substr(equals + 1));
    }
  }
  return {};
}

Status check_trust(const UcxOptions& options) {
  const std::vector<std::string> transports = split_option(options.tls);
  if (transports.empty()) return invalid_argument("tls: it is empty; name a transport, as rc");
  for (const std::string& transport : transports) {
    const std::string plain = transport.substr(0, transport.find(':'));  // rc:aux
    if (options.trust_peers || std::ranges::find(kSafe, plain) != std::end(kSafe)) continue;
    return permission_denied(fmt::format(
        "tls: over \"{}\" a process that is not this one may write to any memory here, late and "
        "unchecked; give transports of a NIC (rc, dc, ud), or set ucx.trust_peers where everyone "
        "who reaches this host is trusted",
        transport));
  }
  const bool tcp = std::ranges::any_of(transports, [](const std::string& name) {
    return name == "tcp" || name == "all" || name.starts_with('^');
  });
  if (tcp && options.devices == "all") {
    return permission_denied(
        "devices: over tcp UCX listens on every device that it may use, and asks for no token; "
        "name them, as \"lo\"");
  }
  return {};
}

}  // namespace

Result<UcxOptions> UcxOptions::parse(const std::map<std::string, std::string>& options) {
  UcxOptions parsed;
  uint32_t timeout_ms = 5000;
  if (const auto tls = options.find("tls"); tls != options.end()) parsed.tls = tls->second;
  if (const auto on = options.find("devices"); on != options.end()) parsed.devices = on->second;
  MEMPOOL_RETURN_IF_ERROR(read_config(options, parsed));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint16_t>(options, "port", 0, 65535, parsed.port));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint64_t>(options, "message_bytes", 4096,
                                                       uint64_t{1} << 30, parsed.message_bytes));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "calls_in_flight", 1, 4096, parsed.calls_in_flight));
  MEMPOOL_RETURN_IF_ERROR(read_flag(options, "trust_peers", parsed.trust_peers));
  MEMPOOL_RETURN_IF_ERROR(read_flag(options, "self_test", parsed.self_test));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "handshake_timeout_ms", 1, 600000, timeout_ms));
  parsed.handshake_timeout = std::chrono::milliseconds(timeout_ms);
  MEMPOOL_RETURN_IF_ERROR(check_trust(parsed));
  return parsed;
}

}  // namespace mempool
