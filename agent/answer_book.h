// SPDX-License-Identifier: Apache-2.0
// Owns what a target remembers of the lives of its sources: the answers of those that may still
// ask, and of others only how far their numbers had come.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/answer_table.h"

namespace mempool {

/// A life is one incarnation of a source. A source asks of a number on the session it was drawn for
/// only, and draws higher ones on the next; so what a life without a session leaves behind may be
/// forgotten without running anything twice, and is kept only to say how things ended.
/// Thread: serialized.
class AnswerBook {
 public:
  /// Lives without a session whose answers are kept: the latest, one a name.
  static constexpr size_t kQuietLives = 64;
  /// Lives without a session of which at least the mark is kept.
  static constexpr size_t kLives = 4096;

  /// A session of this life came up. Requires: it has no other.
  void open(uint64_t incarnation, const std::string& name);
  /// Its session is over. Requires: it was opened.
  void close(uint64_t incarnation);
  /// Requires: the life has a session.
  AnswerTable& of(uint64_t incarnation) { return lives_.at(incarnation).answers; }

  size_t lives() const { return lives_.size(); }
  /// Answers kept, of all lives.
  size_t answers() const;

 private:
  struct Life {
    std::string name;
    bool open = false;
    uint64_t used = 0;  // when it was opened or closed last, in such steps
    AnswerTable answers;
  };

  void trim();

  std::map<uint64_t, Life> lives_;
  uint64_t steps_ = 0;
};

}  // namespace mempool
