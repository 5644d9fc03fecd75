// SPDX-License-Identifier: Apache-2.0
// Owns the pattern and its way through two queue pairs of one device.
#include "transport/verbs/self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/random.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

constexpr size_t kBytes = size_t{64} << 10;  // of each of the three places
constexpr std::chrono::seconds kPatience{5};
constexpr std::chrono::microseconds kPause{50};

/// Two queue pairs of a device, connected to each other. Thread: confined.
class LoopedPair {
 public:
  LoopedPair(const VerbsDevice& device, const VerbsOptions& options)
      : device_(device), options_(options), memory_(3 * kBytes) {}

  Status open(uint32_t pieces) {
    MEMPOOL_ASSIGN_OR_RETURN(registered_,
                             device_.register_memory(memory_.data(), memory_.size(), -1));
    completions_.reset(ibv_create_cq(device_.context(), 8, nullptr, nullptr, 0));
    if (!completions_) {
      return verbs_error(StatusCode::kResourceExhausted, device_.name() + ": a completion queue",
                         errno);
    }
    MEMPOOL_ASSIGN_OR_RETURN(
        near_, QueuePair::create(device_, options_, completions_.get(), nullptr, {4, pieces}));
    MEMPOOL_ASSIGN_OR_RETURN(
        far_, QueuePair::create(device_, options_, completions_.get(), nullptr, {4, pieces}));
    MEMPOOL_RETURN_IF_ERROR(near_.connect(device_.address(), far_.address()));
    return far_.connect(device_.address(), near_.address());
  }

  std::byte* place(size_t number) { return memory_.data() + number * kBytes; }

  /// Move `pieces` parts of one place to or from another, which is a single range.
  Status move(ibv_wr_opcode opcode, size_t local, size_t remote, uint32_t pieces) {
    std::vector<ibv_sge> parts;
    for (uint32_t i = 0; i < pieces; ++i) {
      const size_t from = kBytes * i / pieces;
      const size_t to = kBytes * (i + 1) / pieces;
      parts.push_back({reinterpret_cast<uint64_t>(place(local) + from),
                       static_cast<uint32_t>(to - from), registered_->lkey});
    }
    ibv_send_wr request{};
    request.opcode = opcode;
    request.send_flags = IBV_SEND_SIGNALED;
    request.sg_list = parts.data();
    request.num_sge = static_cast<int>(parts.size());
    request.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(place(remote));
    request.wr.rdma.rkey = registered_->rkey;
    ibv_send_wr* refused = nullptr;
    if (const int error = ibv_post_send(near_.get(), &request, &refused); error != 0) {
      return verbs_error(StatusCode::kUnavailable, device_.name() + ": post", error);
    }
    return wait();
  }

 private:
  Status wait() {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    ibv_wc work{};
    while (ibv_poll_cq(completions_.get(), 1, &work) == 0) {
      if (std::chrono::steady_clock::now() > end) {
        return unavailable(
            fmt::format("{}: no completion in {} s; is a firewall in the way of its "
                        "own packets?",
                        device_.name(), kPatience.count()));
      }
      std::this_thread::sleep_for(kPause);
    }
    return work_status(work.status, work.vendor_err, device_.name());
  }

  const VerbsDevice& device_;
  const VerbsOptions& options_;
  std::vector<std::byte> memory_;
  MemoryHandle registered_;
  CompletionHandle completions_;
  QueuePair near_;
  QueuePair far_;
};

}  // namespace

Status test_device(const VerbsDevice& device, const VerbsOptions& options,
                   const GrantedPieces& granted) {
  LoopedPair loop(device, options);
  MEMPOOL_RETURN_IF_ERROR(loop.open(granted.send));
  Random random(random_word());
  std::generate_n(loop.place(0), kBytes, [&] { return static_cast<std::byte>(random.next()); });
  MEMPOOL_RETURN_IF_ERROR(loop.move(IBV_WR_RDMA_WRITE, 0, 1, granted.send));
  MEMPOOL_RETURN_IF_ERROR(loop.move(IBV_WR_RDMA_READ, 2, 1, granted.read));
  for (const size_t place : {1, 2}) {
    if (std::memcmp(loop.place(0), loop.place(place), kBytes) == 0) continue;
    return {StatusCode::kCorruption,
            fmt::format("{}: a pattern came {} changed; do not use this device", device.name(),
                        place == 1 ? "through a write" : "back from a read")};
  }
  return {};
}

}  // namespace mempool
