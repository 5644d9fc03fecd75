// SPDX-License-Identifier: Apache-2.0
// Owns the reading of the tcp backend's options.
#include "transport/tcp/tcp_options.h"

#include "core/check.h"
#include "transport/number_option.h"
#include "transport/tcp/frame.h"

namespace mempool {
namespace {

Capabilities make_capabilities() {
  Capabilities capabilities;
  capabilities.name = "tcp";
  capabilities.write = true;
  capabilities.read = true;
  capabilities.notify = true;
  capabilities.target_checks = true;
  capabilities.counts_system_calls = true;
  capabilities.gather_pieces = kFrameRangesMax;
  capabilities.scatter_pieces = kFrameRangesMax;
  capabilities.remote_ranges = kFrameRangesMax;
  capabilities.message_bytes = kTcpFrameBytesMax;
  capabilities.calls_in_flight = kTcpCallsInFlight;
  capabilities.reads_in_flight = kTcpCallsInFlight;
  return capabilities;
}

}  // namespace

Result<TcpOptions> TcpOptions::parse(const std::map<std::string, std::string>& options) {
  TcpOptions parsed;
  const uint32_t buffer_max = 1u << 30;
  uint32_t timeout_ms = 5000;
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint16_t>(options, "port", 0, 65535, parsed.port));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint32_t>(options, "streams", 1, 64, parsed.streams));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "send_buffer", 0, buffer_max, parsed.send_buffer));
  MEMPOOL_RETURN_IF_ERROR(read_number_option<uint32_t>(options, "receive_buffer", 0, buffer_max,
                                                       parsed.receive_buffer));
  MEMPOOL_RETURN_IF_ERROR(
      read_number_option<uint32_t>(options, "handshake_timeout_ms", 1, 600000, timeout_ms));
  parsed.handshake_timeout = std::chrono::milliseconds(timeout_ms);
  return parsed;
}

const Capabilities& tcp_capabilities() {
  static const Capabilities capabilities = make_capabilities();
  return capabilities;
}

}  // namespace mempool
