// SPDX-License-Identifier: Apache-2.0
// Owns what the transfer measurement needs of its two processes, whichever way bytes move.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "perf/transfer_case.h"

namespace mempool {

/// What one move did.
struct MoveSample {
  double seconds = 0;  // call to acknowledgement
  double prepare_us = 0;
  double post_us = 0;
  double complete_us = 0;
  uint64_t bytes = 0;
  uint64_t paper_calls = 0;
  uint64_t run_pair_calls = 0;
  uint64_t network_calls = 0;
  std::optional<uint64_t> system_calls;
  uint64_t doorbells = 0;
  uint64_t completions = 0;
  double tail_us = 0;  // by layer: end of the last layer to acknowledgement
};

/// The measured side, in the parent process. Thread: confined.
class MovingEnd {
 public:
  virtual ~MovingEnd() = default;
  virtual Result<MoveSample> move(uint32_t repeat) = 0;
  /// Move while a prefill goes on that takes `layer_time` a layer. Errors: kUnsupported for reads.
  virtual Result<MoveSample> move_by_layer(uint32_t repeat,
                                           std::chrono::microseconds layer_time) = 0;
  /// How long the connecting took. Requires: one move.
  virtual double connect_us() const = 0;
  /// Its pieces in the order of the list, for the bare stream.
  virtual std::vector<iovec> pieces() const = 0;
  /// Errors: kCorruption when what a read brought is not what the other side holds.
  virtual Status check() const = 0;
};

/// The other side, in the child process. Thread: confined.
class ServingEnd {
 public:
  virtual ~ServingEnd() = default;
  /// What the moving end is opened with.
  virtual std::string address() const = 0;
  /// Errors: kCorruption when what a write brought is not what was sent.
  virtual Status check(uint32_t repeat) = 0;
  /// Forget what `repeat` brought.
  virtual Status clean(uint32_t repeat) = 0;
  /// Lend the pieces that a move would use to the bare stream, until take_back().
  virtual Result<std::vector<iovec>> lend_pieces() = 0;
  virtual Status take_back() = 0;
};

// Writes go through two agents; reads through two raw endpoints, since an agent only pushes.
Result<std::unique_ptr<MovingEnd>> open_writing_end(const TransferCase& measured,
                                                    const TransferSite& site,
                                                    const std::string& address);
Result<std::unique_ptr<ServingEnd>> open_written_end(const TransferCase& measured,
                                                     const TransferSite& site);
Result<std::unique_ptr<MovingEnd>> open_reading_end(const TransferCase& measured,
                                                    const TransferSite& site,
                                                    const std::string& address);
Result<std::unique_ptr<ServingEnd>> open_read_end(const TransferCase& measured,
                                                  const TransferSite& site);

}  // namespace mempool
