// SPDX-License-Identifier: Apache-2.0
// Owns the cutting of a list into parts, and the rounds of the threads.
#include "transport/shm/shm_copy_threads.h"

#include <algorithm>
#include <cstring>
#include <system_error>

#include "core/log.h"

namespace mempool {
namespace {

// Below this a wake-up costs more than it spares.
constexpr uint64_t kSharedBytesLeast = 256 << 10;

// Copy bytes [first, end) of the pieces, counted through the whole list.
void copy_part(std::span<const ShmPiece> pieces, uint64_t first, uint64_t end) {
  uint64_t at = 0;
  for (const ShmPiece& piece : pieces) {
    const uint64_t from = std::max(first, at);
    const uint64_t to = std::min(end, at + piece.bytes);
    if (from < to) std::memcpy(piece.to + (from - at), piece.from + (from - at), to - from);
    at += piece.bytes;
    if (at >= end) break;
  }
}

}  // namespace

ShmCopyThreads::ShmCopyThreads(uint32_t threads) : parts_(threads) {
  for (uint32_t part = 1; part < threads; ++part) {
    try {
      threads_.emplace_back([this, part] { run(part); });
    } catch (const std::system_error& error) {
      log().warning("shm.copy_threads = {}: only {} could be started: {}", threads, part,
                    error.what());
      parts_ = part;
      return;
    }
  }
}

ShmCopyThreads::~ShmCopyThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  started_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ShmCopyThreads::copy(std::span<const ShmPiece> pieces) {
  uint64_t bytes = 0;
  if (parts_ > 1) {
    for (const ShmPiece& piece : pieces) bytes += piece.bytes;
  }
  if (bytes < kSharedBytesLeast) {
    for (const ShmPiece& piece : pieces) std::memcpy(piece.to, piece.from, piece.bytes);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    pieces_ = pieces;
    bytes_ = bytes;
    running_ = parts_ - 1;
    ++round_;
  }
  started_.notify_all();
  copy_part(pieces, 0, bytes / parts_);
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return running_ == 0; });
}

void ShmCopyThreads::run(uint32_t part) {
  std::unique_lock lock(mutex_);
  for (uint64_t done = 0;;) {
    started_.wait(lock, [&] { return stopping_ || round_ != done; });
    if (stopping_) return;
    done = round_;
    const std::span<const ShmPiece> pieces = pieces_;
    const uint64_t bytes = bytes_;
    lock.unlock();
    copy_part(pieces, bytes * part / parts_, bytes * (part + 1) / parts_);
    lock.lock();
    if (--running_ == 0) ended_.notify_one();
  }
}

}  // namespace mempool
