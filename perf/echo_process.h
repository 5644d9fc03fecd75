// SPDX-License-Identifier: Apache-2.0
// Owns a process that answers: the other end of bare round trips.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/descriptor.h"
#include "mempool/status.h"
#include "perf/child_process.h"

namespace mempool {

enum class EchoOver : uint8_t { kUnix, kTcp };

/// Blocking round trips with a process of its own. Thread: confined.
class EchoProcess {
 public:
  /// It answers from `core`. Requires: no thread but this one runs. Errors: kUnavailable.
  static Result<EchoProcess> start(EchoOver over, int core);

  /// Send so many bytes and wait for so many; each at least 16. Errors: kUnavailable.
  Status round_trip(uint64_t request_bytes, uint64_t answer_bytes);

 private:
  EchoProcess(ChildProcess child, Descriptor socket)
      : child_(std::move(child)), socket_(std::move(socket)) {}

  ChildProcess child_;
  Descriptor socket_;
  std::vector<std::byte> bytes_;
};

}  // namespace mempool
