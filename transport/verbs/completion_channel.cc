// SPDX-License-Identifier: Apache-2.0
// Owns the order of arming and polling, by which no completion is slept over.
#include "transport/verbs/completion_channel.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "core/check.h"
#include "core/log.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

constexpr int kEntriesPerPoll = 32;

void make_nonblocking(int descriptor) {
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
}

}  // namespace

Result<std::unique_ptr<CompletionQueue>> CompletionQueue::create(const VerbsDevice& device,
                                                                 CompletionChannel& channel,
                                                                 uint32_t entries, bool wakes,
                                                                 CompletionHandler& handler) {
  std::unique_ptr<CompletionQueue> made(new CompletionQueue(channel, handler));
  made->handle_.reset(
      ibv_create_cq(device.context(), static_cast<int>(entries), made.get(), channel.get(), 0));
  if (!made->handle_) {
    return verbs_error(StatusCode::kResourceExhausted,
                       fmt::format("{}: a completion queue of {} entries", device.name(), entries),
                       errno);
  }
  if (!wakes) return made;
  if (const int error = ibv_req_notify_cq(made->get(), 0); error != 0) {
    return verbs_error(StatusCode::kUnavailable,
                       fmt::format("{}: completion events", device.name()), error);
  }
  return made;
}

CompletionQueue::~CompletionQueue() {
  set_due(false);
  handler_ = nullptr;
  if (!handle_) return;
  channel_.take_events();  // those of this queue would name it after it is gone
  ibv_ack_cq_events(get(), unacknowledged_);
}

void CompletionQueue::drain() {
  std::array<ibv_wc, kEntriesPerPoll> work;
  bool any = false;
  int count = 0;
  while ((count = ibv_poll_cq(get(), static_cast<int>(work.size()), work.data())) > 0) {
    any = true;
    for (int i = 0; i < count; ++i) handler_->on_work(work[static_cast<size_t>(i)]);
  }
  if (any) handler_->on_drained();
}

// Armed first and polled then: what completes between the two is polled, what comes after wakes.
void CompletionQueue::on_event() {
  ++unacknowledged_;
  if (handler_ == nullptr) return;
  (void)ibv_req_notify_cq(get(), 0);  // fails with the device only, which breaks all queue pairs
  drain();
}

void CompletionQueue::set_due(bool due) {
  if (!channel_.spins() || std::exchange(due_, due) == due) return;
  if (due) {
    channel_.due_.push_back(this);
    channel_.spinning_->schedule();
  } else {
    std::erase(channel_.due_, this);
  }
}

Result<std::unique_ptr<CompletionChannel>> CompletionChannel::create(const VerbsDevice& device,
                                                                     Loop& loop, bool spin) {
  std::unique_ptr<CompletionChannel> made(new CompletionChannel(device, spin));
  MEMPOOL_RETURN_IF_ERROR(made->open(loop));
  return made;
}

Status CompletionChannel::open(Loop& loop) {
  handle_.reset(ibv_create_comp_channel(device_.context()));
  if (!handle_) {
    return verbs_error(StatusCode::kResourceExhausted,
                       fmt::format("{}: a completion channel", device_.name()), errno);
  }
  make_nonblocking(handle_->fd);
  make_nonblocking(device_.context()->async_fd);
  events_ = loop.watch(handle_->fd, [this] { take_events(); });
  reports_ = loop.watch(device_.context()->async_fd, [this] { take_reports(); });
  spinning_ = loop.make_task([this] { spin(); });
  if (events_ && reports_) return {};
  return resource_exhausted(fmt::format(
      "{}: its events cannot be watched; raise the limit of descriptors", device_.name()));
}

void CompletionChannel::take_events() {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(get(), &queue, &context) == 0) {
    static_cast<CompletionQueue*>(context)->on_event();
  }
  // A device that has been taken away is readable for ever, with an error each time.
  if (errno != EAGAIN && errno != EINTR) events_.reset();
}

void CompletionChannel::take_reports() {
  ibv_async_event event{};
  while (ibv_get_async_event(device_.context(), &event) == 0) {
    switch (event.event_type) {
      case IBV_EVENT_PORT_ACTIVE:
        log().info("verbs: a port of {} is up", device_.name());
        break;
      case IBV_EVENT_PORT_ERR:
        log().warning(
            "verbs: a port of {} is down; what is under way ends when its retries are "
            "used up",
            device_.name());
        break;
      case IBV_EVENT_DEVICE_FATAL:
        log().error("verbs: {} has failed; look at the kernel log", device_.name());
        if (failed_) failed_();
        break;
      default:  // of a queue pair: its work requests say more
        log().debug("verbs: {}: {}", device_.name(), ibv_event_type_str(event.event_type));
    }
    ibv_ack_async_event(&event);
  }
  if (errno != EAGAIN && errno != EINTR) reports_.reset();
}

void CompletionChannel::spin() {
  // One that goes meanwhile makes another wait for the next turn.
  for (size_t i = 0; i < due_.size(); ++i) due_[i]->drain();
  if (!due_.empty()) spinning_->schedule();
}

}  // namespace mempool
