// SPDX-License-Identifier: Apache-2.0
// Owns the posting of receives and the way of a notification to its connection.
#include "transport/verbs/receive_side.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "core/check.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

constexpr uint32_t kReceivesPerPost = 64;

}  // namespace

Result<std::unique_ptr<ReceiveSide>> ReceiveSide::create(const VerbsDevice& device,
                                                         CompletionChannel& channel,
                                                         uint32_t receives) {
  const auto most = static_cast<uint32_t>(
      std::max(1, std::min(device.limits().max_srq_wr, device.limits().max_cqe)));
  std::unique_ptr<ReceiveSide> made(new ReceiveSide(device, std::min(receives, most)));
  MEMPOOL_RETURN_IF_ERROR(made->open(channel));
  return made;
}

Status ReceiveSide::open(CompletionChannel& channel) {
  MEMPOOL_ASSIGN_OR_RETURN(completions_,
                           CompletionQueue::create(device_, channel, room_, true, *this));
  ibv_srq_init_attr wanted{};
  wanted.attr.max_wr = room_;
  wanted.attr.max_sge = 1;
  receives_.reset(ibv_create_srq(device_.domain(), &wanted));
  if (!receives_) {
    return verbs_error(StatusCode::kResourceExhausted,
                       fmt::format("{}: a queue of {} receives", device_.name(), room_), errno);
  }
  requests_.resize(kReceivesPerPost);
  owed_ = room_;
  return post_owed();
}

// A notification has no bytes, so a receive for it has no memory.
Status ReceiveSide::post_owed() {
  while (owed_ > 0) {
    const uint32_t now = std::min(owed_, kReceivesPerPost);
    for (uint32_t i = 0; i < now; ++i) {
      requests_[i] = {};
      requests_[i].next = i + 1 < now ? &requests_[i + 1] : nullptr;
    }
    ibv_recv_wr* refused = nullptr;
    const int error = ibv_post_srq_recv(receives(), requests_.data(), &refused);
    const auto taken =
        error == 0 || refused == nullptr ? now : static_cast<uint32_t>(refused - requests_.data());
    owed_ -= taken;
    if (error != 0) {
      return verbs_error(StatusCode::kUnavailable, fmt::format("{}: post receives", device_.name()),
                         error);
    }
  }
  return {};
}

Status ReceiveSide::grant(uint32_t notifications) {
  if (granted_ + notifications > room_) {
    return resource_exhausted(
        fmt::format("{} has {} receives, {} of them granted to other peers; raise verbs.receives",
                    device_.name(), room_, granted_));
  }
  granted_ += notifications;
  return {};
}

void ReceiveSide::add(const QueuePair& queue, NotificationHandler& handler) {
  handlers_[queue.address().number] = &handler;
}

void ReceiveSide::end(QueuePair& queue) {
  if (!queue) return;
  const uint32_t number = queue.address().number;
  // Taken before it is destroyed: some drivers wipe what a queue pair has left in its queue. And
  // after it, for those that do not.
  queue.stop();
  completions_->drain();
  queue.destroy();
  completions_->drain();
  handlers_.erase(number);
}

void ReceiveSide::on_work(const ibv_wc& work) {
  ++owed_;
  if (work.status != IBV_WC_SUCCESS) return;  // its queue pair broke; the source says so
  ++taken_;
  const auto found = handlers_.find(work.qp_num);
  const bool with_data = (work.wc_flags & IBV_WC_WITH_IMM) != 0;
  const Immediate immediate = Immediate::of(with_data ? ntohl(work.imm_data) : 0);
  if (with_data && found != handlers_.end() && found->second->on_notification(immediate)) return;
  ++strays_;
  log_.warning("stray", "verbs: {}: a notification of slot {} that nobody waits for is dropped",
               device_.name(), immediate.slot);
}

void ReceiveSide::on_drained() {
  const Status posted = post_owed();
  if (!posted.ok()) log_.warning("receives", "verbs: {}", posted.message());
}

}  // namespace mempool
