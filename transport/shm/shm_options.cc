// SPDX-License-Identifier: Apache-2.0
// Owns the reading of the shm backend's options.
#include "transport/shm/shm_options.h"

#include "core/check.h"
#include "transport/number_option.h"
#include "transport/shm/shm_frame.h"

namespace mempool {
namespace {

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
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "copy_threads", 1, 8, parsed.copy_threads));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "handshake_timeout_ms", 1, 600000, timeout_ms));
  parsed.handshake_timeout = std::chrono::milliseconds(timeout_ms);
  return parsed;
}

const Capabilities& shm_capabilities() {
  static const Capabilities capabilities = make_capabilities();
  return capabilities;
}

}  // namespace mempool
