// SPDX-License-Identifier: Apache-2.0
// Owns the count of forks between this process and its first ancestor that looked.
#include "core/fork_mark.h"

#include <pthread.h>

#include <atomic>

#include "core/check.h"

namespace mempool {
namespace {

std::atomic<uint64_t> fork_depth{0};

uint64_t watched_depth() {
  static const int watching =
      pthread_atfork(nullptr, nullptr, [] { fork_depth.fetch_add(1, std::memory_order_relaxed); });
  MEMPOOL_CHECK(watching == 0);
  return fork_depth.load(std::memory_order_relaxed);
}

}  // namespace

ForkMark::ForkMark() : depth_(watched_depth()) {}

bool ForkMark::here() const {
  return fork_depth.load(std::memory_order_relaxed) == depth_;
}

Status ForkMark::check() const {
  if (here()) return Status();
  return unavailable(
      "this agent was started before fork(), and a fork has neither its thread nor its memory; "
      "start one in the child");
}

}  // namespace mempool
