// SPDX-License-Identifier: Apache-2.0
// Owns the question how much memory the machine and the cgroups above this process still give.
#pragma once

#include <cstdint>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// Bytes this process may still take: the least of MemAvailable and what each cgroup above it
/// leaves, where cached file pages count as free. `root` stands before /proc and /sys, for tests.
/// Errors: kInternal where /proc says nothing.
Result<uint64_t> available_memory_bytes(const std::string& root = "");

/// Check that `bytes` may still be taken. Errors: kResourceExhausted, naming both numbers.
Status check_room(uint64_t bytes, const std::string& root = "");

}  // namespace mempool
