// SPDX-License-Identifier: Apache-2.0
// Owns the choice of the lives that are forgotten.
#include "agent/answer_book.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

namespace mempool {

void AnswerBook::open(uint64_t incarnation, const std::string& name) {
  Life& life = lives_[incarnation];
  life.name = name;
  life.open = true;
  life.used = ++steps_;
  trim();
}

void AnswerBook::close(uint64_t incarnation) {
  Life& life = lives_.at(incarnation);
  life.open = false;
  life.used = ++steps_;
  trim();
}

size_t AnswerBook::answers() const {
  size_t count = 0;
  for (const auto& [incarnation, life] : lives_) count += life.answers.size();
  return count;
}

void AnswerBook::trim() {
  std::set<std::string_view> names;  // whose answers are kept already
  std::vector<std::map<uint64_t, Life>::iterator> quiet;
  for (auto it = lives_.begin(); it != lives_.end(); ++it) {
    if (it->second.open) {
      names.insert(it->second.name);
    } else {
      quiet.push_back(it);
    }
  }
  std::ranges::sort(quiet, std::ranges::greater(), [](const auto& it) { return it->second.used; });
  size_t kept = 0;
  for (const auto& it : quiet) {
    if (kept < kQuietLives && names.insert(it->second.name).second) {
      ++kept;
    } else {
      it->second.answers.forget();
    }
  }
  for (size_t i = kLives; i < quiet.size(); ++i) lives_.erase(quiet[i]);
}

}  // namespace mempool
