// SPDX-License-Identifier: Apache-2.0
// Owns how foreign words are made fit for our messages and logs.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace mempool {

/// Cut what is only for people to `most` bytes, with '?' for what is not printable ASCII.
inline std::string readable(std::string_view words, size_t most) {
  std::string text(words.substr(0, most));
  const auto strange = [](char letter) { return letter < ' ' || letter > '~'; };
  std::ranges::replace_if(text, strange, '?');
  return text;
}

}  // namespace mempool
