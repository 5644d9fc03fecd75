// SPDX-License-Identifier: Apache-2.0
// Owns the reading of a number from a backend's options.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// Put the option `key` into `out`, which stays as it is without one. Errors: kInvalidArgument
/// naming the key whose value is no number or out of range.
template <typename Number>
Status read_number_option(const std::map<std::string, std::string>& options, const std::string& key,
                          Number least, Number most, Number& out) {
  const auto found = options.find(key);
  if (found == options.end()) return {};
  const std::string& text = found->second;
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return invalid_argument(
        fmt::format("{} = \"{}\": give a whole number from {} to {}", key, text, least, most));
  }
  out = value;
  return {};
}

}  // namespace mempool
