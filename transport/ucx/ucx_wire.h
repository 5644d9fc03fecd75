// SPDX-License-Identifier: Apache-2.0
// Owns the bytes that two ucx backends tell each other outside of UCX: the key of a region, and the
// address of a worker, or why there is none. UCX reads what it packed without looking at its
// length, so each carries a sum, and UCX sees none that was cut or changed on its way. Against a
// peer that seals what it likes, keys are checked as far as their format is known, and what UCX
// reads past the end of either are zeros.
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
  std::vector<std::byte> key;  // as UCX packs it, decoded with kUcxSlackBytes behind it
};

inline constexpr size_t kUcxKeyBytesMax = 1024;

/// Errors: kUnsupported for a key of more than kUcxKeyBytesMax bytes in all.
Result<std::vector<std::byte>> encode_ucx_key(const UcxKey& key);
/// Errors: kInvalidArgument for a malformed key, or one of another region than `region`; kStale for
/// one of another incarnation than `incarnation`.
Result<UcxKey> decode_ucx_key(std::span<const std::byte> bytes, uint64_t incarnation,
                              uint32_t region);

/// Zeros behind what UCX decodes: more than the largest key of a transport has bytes (of cuda_ipc,
/// some 100), and an end for names, which it takes to be terminated.
inline constexpr size_t kUcxSlackBytes = 512;

std::vector<std::byte> encode_worker_address(std::span<const std::byte> address);
/// Tell the dialer why it gets no worker.
std::vector<std::byte> encode_worker_refusal(const Status& why);
/// Give the address, with kUcxSlackBytes behind it. Errors: kInvalidArgument for a malformed note;
/// kUnavailable with the peer's words where it refuses.
Result<std::vector<std::byte>> decode_worker_note(std::span<const std::byte> note);

}  // namespace mempool
