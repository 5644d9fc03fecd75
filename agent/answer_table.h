// SPDX-License-Identifier: Apache-2.0
// Owns what makes a transfer happen once: the answers a target has given to one source, by number.
#pragma once

#include <cstdint>
#include <deque>
#include <map>

#include "agent/message.h"

namespace mempool {

/// Keeps the answers given last, 4,096 of them, and a low-water mark below which numbers are
/// forgotten. The lists of addresses are kept for the last 64 only, so that the table stays small.
/// Thread: serialized.
class AnswerTable {
 public:
  static constexpr size_t kAnswers = 4096;
  static constexpr size_t kFullAnswers = 64;

  /// The final answer to `number`, or null.
  const Message* find(uint64_t number) const;
  /// Tell whether `number` is so old that its answer was dropped: it must never run again.
  bool forgotten(uint64_t number) const { return number <= low_water_; }
  void finish(uint64_t number, Message answer);
  /// Drop every answer; only the mark stays, at the highest number.
  void forget();
  size_t size() const { return answers_.size(); }

 private:
  std::map<uint64_t, Message> answers_;
  std::deque<uint64_t> order_;  // numbers, as they finished
  uint64_t low_water_ = 0;
};

}  // namespace mempool
