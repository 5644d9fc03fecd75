// SPDX-License-Identifier: Apache-2.0
// Owns the threads that may share the copying of one list.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace mempool {

/// One copy of a list.
struct ShmPiece {
  std::byte* to;
  const std::byte* from;
  uint64_t bytes;
};

/// Cuts a list by bytes into equal parts. The caller copies the first and sleeps until the others
/// have done theirs, so that when copy() returns nobody touches the list's memory. Starts no thread
/// when there is one only. Thread: confined, but for its own threads.
class ShmCopyThreads {
 public:
  explicit ShmCopyThreads(uint32_t threads);
  ~ShmCopyThreads();

  void copy(std::span<const ShmPiece> pieces);

 private:
  void run(uint32_t part);

  uint32_t parts_;  // set before the first list
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable started_;
  std::condition_variable ended_;
  std::span<const ShmPiece> pieces_;  // under mutex_, as what follows
  uint64_t bytes_ = 0;
  uint64_t round_ = 0;
  uint32_t running_ = 0;
  bool stopping_ = false;
};

}  // namespace mempool
