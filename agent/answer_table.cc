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
  if (answers_.insert_or_assign(number, std::move(answer)).second) order_.push_back(number);
  if (order_.size() > kFullAnswers) {
    Message& aged = answers_.at(order_[order_.size() - kFullAnswers - 1]);
    if (auto* reply = std::get_if<CommitReply>(&aged)) std::exchange(reply->serving, {});
    if (auto* reply = std::get_if<OfferReply>(&aged)) std::exchange(reply->reserved, {});
  }
  while (order_.size() > kAnswers) {
    low_water_ = std::max(low_water_, order_.front());
    answers_.erase(order_.front());
    order_.pop_front();
  }
}

void AnswerTable::forget() {
  if (!answers_.empty()) low_water_ = std::max(low_water_, answers_.rbegin()->first);
  answers_.clear();
  order_.clear();
}

}  // namespace mempool
