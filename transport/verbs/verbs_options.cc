// SPDX-License-Identifier: Apache-2.0
// Owns the reading of the verbs backend's options.
#include "transport/verbs/verbs_options.h"

#include <algorithm>

#include "core/check.h"
#include "transport/number_option.h"
#include "transport/option_list.h"

namespace mempool {
namespace {

constexpr uint32_t kMtus[] = {0, 256, 512, 1024, 2048, 4096};

template <typename Small>
Status read_small(const std::map<std::string, std::string>& options, const std::string& key,
                  uint32_t least, uint32_t most, Small& out) {
  uint32_t value = static_cast<uint32_t>(out);
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint32_t>(options, key, least, most, value));
  out = static_cast<Small>(value);
  return {};
}

Status read_devices(const std::map<std::string, std::string>& options,
                    std::vector<std::string>& devices) {
  const auto found = options.find("devices");
  if (found == options.end()) return {};
  devices = split_option(found->second);
  const bool has_auto = std::ranges::count(devices, "auto") > 0;
  if (devices.empty() || (has_auto && devices.size() > 1)) {
    return invalid_argument(
        fmt::format("devices = \"{}\": give \"auto\" or names of RDMA devices", found->second));
  }
  return {};
}

}  // namespace

Result<VerbsOptions> VerbsOptions::parse(const std::map<std::string, std::string>& options) {
  VerbsOptions parsed;
  uint32_t timeout_ms = 5000;
  MEMPOOL_RETURN_IF_ERROR(read_devices(options, parsed.devices));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint16_t>(options, "port", 0, 65535, parsed.port));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "queue_pairs", 1, 16, parsed.queue_pairs));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "queue_depth", 16, 4096, parsed.queue_depth));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "gather", 1, 256, parsed.gather));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint64_t>(options, "message_bytes", 4096,
                                                       uint64_t{1} << 30, parsed.message_bytes));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<int32_t>(options, "gid_index", -1, 255, parsed.gid_index));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "pkey_index", 0, 65535, parsed.pkey_index));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "mtu", 0, 4096, parsed.mtu));
  if (std::ranges::find(kMtus, parsed.mtu) == std::end(kMtus)) {
    return invalid_argument(
        fmt::format("mtu = {}: give 256, 512, 1024, 2048, 4096 or 0", parsed.mtu));
  }
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "traffic_class", 0, 255, parsed.traffic_class));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "service_level", 0, 15, parsed.service_level));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "timeout", 1, 22, parsed.timeout));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "retries", 0, 6, parsed.retries));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "receiver_retries", 0, 6, parsed.receiver_retries));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "receives", 16, 32768, parsed.receives));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "spin", 0, 1, parsed.spin));
  MEMPOOL_RETURN_IF_ERROR(read_small(options, "self_test", 0, 1, parsed.self_test));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "handshake_timeout_ms", 1, 600000, timeout_ms));
  parsed.handshake_timeout = std::chrono::milliseconds(timeout_ms);
  return parsed;
}

}  // namespace mempool
