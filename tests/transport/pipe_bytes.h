// SPDX-License-Identifier: Apache-2.0
// Owns how the two processes of a test hand each other bytes over a pipe.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mempool {

inline void send_all(int descriptor, const std::vector<std::byte>& bytes) {
  const auto count = static_cast<uint32_t>(bytes.size());
  EXPECT_EQ(::write(descriptor, &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(::write(descriptor, bytes.data(), count), static_cast<ssize_t>(count));
}

inline std::vector<std::byte> receive_all(int descriptor) {
  uint32_t count = 0;
  EXPECT_EQ(::read(descriptor, &count, sizeof count), static_cast<ssize_t>(sizeof count));
  std::vector<std::byte> bytes(count);
  EXPECT_EQ(::read(descriptor, bytes.data(), count), static_cast<ssize_t>(count));
  return bytes;
}

}  // namespace mempool
