// SPDX-License-Identifier: Apache-2.0
// Owns the bytes that two ucx backends tell each other outside of UCX: the key of a region, and the
// address of a worker. UCX reads what it packed without looking at its length, so each carries a
// sum, and UCX sees none that was cut or changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What a peer learns of a region.
struct UcxKey {
  uint64_t incarnation = 0;
  uint32_t region = 0;
  uint64_t bytes = 0;
  uint64_t base = 0;           // where it begins in its owner's memory
  std::vector<std::byte> key;  // as UCX packs it
};

inline constexpr size_t kUcxKeyBytesMax = 1024;

/// Errors: kUnsupported for a key of more than kUcxKeyBytesMax bytes in all.
Result<std::vector<std::byte>> encode_ucx_key(const UcxKey& key);
/// Errors: kInvalidArgument for a malformed key, or one of another region than `region`; kStale for
/// one of another incarnation than `incarnation`.
Result<UcxKey> decode_ucx_key(std::span<const std::byte> bytes, uint64_t incarnation,
                              uint32_t region);

std::vector<std::byte> encode_worker_address(std::span<const std::byte> address);
/// Errors: kInvalidArgument for a malformed note.
Result<std::vector<std::byte>> decode_worker_address(std::span<const std::byte> note);

}  // namespace mempool
