// SPDX-License-Identifier: Apache-2.0
// Owns how numbers lie in keys, addresses and frames: little-endian, packed.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>

namespace mempool {

static_assert(std::endian::native == std::endian::little, "swap bytes here before porting");

/// Writes numbers one behind the other. Requires: room for all of them. Thread: confined.
class LittleEndianWriter {
 public:
  explicit LittleEndianWriter(std::byte* to) : at_(to) {}
  template <std::integral Number>
  LittleEndianWriter& put(Number number) {
    std::memcpy(at_, &number, sizeof number);
    at_ += sizeof number;
    return *this;
  }
  LittleEndianWriter& put(std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
    return *this;
  }

 private:
  std::byte* at_;
};

/// Reads what the writer wrote. Requires: the bytes are there. Thread: confined.
class LittleEndianReader {
 public:
  explicit LittleEndianReader(const std::byte* from) : at_(from) {}
  template <std::integral Number>
  Number get() {
    Number number;
    std::memcpy(&number, at_, sizeof number);
    at_ += sizeof number;
    return number;
  }
  void get(std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), at_, bytes.size());
    at_ += bytes.size();
  }

 private:
  const std::byte* at_;
};

}  // namespace mempool
