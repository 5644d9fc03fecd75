// SPDX-License-Identifier: Apache-2.0
// Owns the keeping and forgetting of answers.
#include "agent/answer_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace mempool {

const Message* AnswerTable::find(uint64_t number) const {
  auto it = answers_.find(number);
  return it == answers_.end() ? nullptr : &it->second;
}

void AnswerTable::finish(uint64_t number, Message answer) {
  answers_.insert_or_assign(number, std::move(answer));
  if (answers_.size() > kFullAnswers) {
    auto aged = std::prev(answers_.end(), kFullAnswers + 1);
    if (auto* reply = std::get_if<CommitReply>(&aged->second)) {
      reply->serving.clear();
      reply->serving.shrink_to_fit();
    }
  }
  while (answers_.size() > kAnswers) {
    low_water_ = std::max(low_water_, answers_.begin()->first);
    answers_.erase(answers_.begin());
  }
}

void AnswerTable::forget() {
  if (!answers_.empty()) low_water_ = std::max(low_water_, answers_.rbegin()->first);
  answers_.clear();
}

}  // namespace mempool
