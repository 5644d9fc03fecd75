// SPDX-License-Identifier: Apache-2.0
// Owns the reading of the shm backend's options.
#include "transport/shm/shm_options.h"

#include <fmt/format.h>

#include <charconv>

#include "core/check.h"
#include "transport/shm/shm_frame.h"

namespace mempool {
namespace {

Status read(const std::map<std::string, std::string>& options, const std::string& key,
            uint32_t least, uint32_t most, uint32_t& out) {
  const auto found = options.find(key);
  if (found == options.end()) return {};
  const std::string& text = found->second;
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return invalid_argument(
        fmt::format("{} = \"{}\": give a whole number from {} to {}", key, text, least, most));
  }
  out = value;
  return {};
}

Capabilities make_capabilities() {
  Capabilities capabilities;
  capabilities.name = "shm";
  capabilities.write = true;
  capabilities.read = true;
  capabilities.notify = true;
  capabilities.target_checks = true;
  capabilities.reads_at_post = true;
  capabilities.counts_system_calls = true;
  capabilities.gather_pieces = kShmPiecesMax;
  capabilities.scatter_pieces = kShmPiecesMax;
  capabilities.remote_ranges = kShmPiecesMax;
  capabilities.message_bytes = kShmCallBytesMax;
  capabilities.calls_in_flight = kShmCallsInFlight;
  capabilities.reads_in_flight = kShmCallsInFlight;
  return capabilities;
}

}  // namespace

Result<ShmOptions> ShmOptions::parse(const std::map<std::string, std::string>& options) {
  ShmOptions parsed;
  uint32_t timeout_ms = 5000;
  MEMPOOL_RETURN_IF_ERROR(read(options, "copy_threads", 1, 8, parsed.copy_threads));
  MEMPOOL_RETURN_IF_ERROR(read(options, "handshake_timeout_ms", 1, 600000, timeout_ms));
  parsed.handshake_timeout = std::chrono::milliseconds(timeout_ms);
  return parsed;
}

const Capabilities& shm_capabilities() {
  static const Capabilities capabilities = make_capabilities();
  return capabilities;
}

}  // namespace mempool
