// SPDX-License-Identifier: Apache-2.0
// Owns the serving of connections that peers opened.
#include "transport/ucx/ucx_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "transport/ucx/ucx_wire.h"

namespace mempool {

/// One connection that a peer opened. Thread: confined, as its target.
class UcxTarget::Inbound final : public SetupLinkOwner, public UcxWorkerOwner {
 public:
  Inbound(UcxTarget& target, std::shared_ptr<SetupLink> link, uint64_t peer)
      : target_(target), peer_(peer), link_(std::move(link)) {}
  ~Inbound() override {
    if (worker_) worker_->close();
    link_->close();
  }

  uint64_t peer() const { return peer_; }
  /// Make the worker and tell the peer of it. Errors: kResourceExhausted, kUnavailable.
  Status open();

 private:
  Status hear();
  void on_notice(std::span<const std::byte> notice);
  void on_hello(const ucp_am_recv_param_t& param);
  Status on_note(std::span<const std::byte>) override {
    return invalid_argument("a note of a peer that has none to send");
  }
  void on_closed(const Status& why) override { target_.lose(*this, why); }
  void on_progress() override {
    if (!failure_.ok()) target_.lose(*this, Status(failure_));
  }
  void on_broken(const Status& why) override { target_.lose(*this, why); }

  UcxTarget& target_;
  const uint64_t peer_;
  const std::shared_ptr<SetupLink> link_;
  std::shared_ptr<UcxWorker> worker_;
  bool greeted_ = false;
  Status failure_;  // to be acted on outside of UCX's calls
};

Status UcxTarget::Inbound::open() {
  MEMPOOL_ASSIGN_OR_RETURN(worker_, UcxWorker::open(target_.context_, target_.loop_,
                                                    static_cast<UcxWorkerOwner&>(*this)));
  MEMPOOL_RETURN_IF_ERROR(hear());
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::byte> address, ucx_address_of(worker_->handle()));
  link_->start(*this);
  link_->set_deadline(target_.timeout_);
  link_->send(encode_worker_address(address));
  return {};
}

Status UcxTarget::Inbound::hear() {
  const auto notice = [](void* self, const void* header, size_t bytes, void*, size_t,
                         const ucp_am_recv_param_t*) {
    static_cast<Inbound*>(self)->on_notice({static_cast<const std::byte*>(header), bytes});
    return UCS_OK;
  };
  const auto hello = [](void* self, const void*, size_t, void*, size_t,
                        const ucp_am_recv_param_t* param) {
    static_cast<Inbound*>(self)->on_hello(*param);
    return UCS_OK;
  };
  MEMPOOL_RETURN_IF_ERROR(hear_ucx(worker_->handle(), UcxMessage::kNotice, notice, this));
  return hear_ucx(worker_->handle(), UcxMessage::kHello, hello, this);
}

void UcxTarget::Inbound::on_hello(const ucp_am_recv_param_t& param) {
  // Only a dialer's first message has a way back; an answer to an answer would never end.
  if ((param.recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0 || std::exchange(greeted_, true)) {
    failure_ = invalid_argument("malformed greeting");
  } else if (const ucs_status_t sent = send_ucx_hello(param.reply_ep); sent != UCS_OK) {
    failure_ = unavailable(fmt::format("answer the greeting: UCX: {}", ucs_status_string(sent)));
  } else {
    link_->clear_deadline();
  }
}

void UcxTarget::Inbound::on_notice(std::span<const std::byte> notice) {
  UcxNotice words;
  if (notice.size() != sizeof words) {
    failure_ = invalid_argument(fmt::format("malformed notification of {} bytes", notice.size()));
    return;
  }
  std::memcpy(words.data(), notice.data(), sizeof words);
  const Slot slot{words[0], words[1]};
  if (!target_.events_.slots().is_open(peer_, slot)) {
    ++target_.strays_;
    return;
  }
  target_.events_.notified(peer_, slot);
}

UcxTarget::UcxTarget(ucp_context_h context, Loop& loop, EventQueue& events,
                     std::chrono::milliseconds timeout)
    : context_(context), loop_(loop), events_(events), timeout_(timeout) {}

UcxTarget::~UcxTarget() = default;

Status UcxTarget::check_room(uint64_t peer) const {
  const auto of_peer =
      std::ranges::count_if(inbound_, [&](const auto& one) { return one->peer() == peer; });
  if (static_cast<size_t>(of_peer) < kPerPeerMax && inbound_.size() < kInboundMax) return {};
  return resource_exhausted(
      fmt::format("{} connections of this peer and {} in all are open, of {} and {}; close some",
                  of_peer, inbound_.size(), kPerPeerMax, kInboundMax));
}

void UcxTarget::adopt(std::shared_ptr<SetupLink> link, uint64_t peer) {
  auto inbound = std::make_unique<Inbound>(*this, link, peer);
  Status opened = check_room(peer);
  if (opened.ok()) opened = inbound->open();
  if (opened.ok()) {
    inbound_.push_back(std::move(inbound));
    return;
  }
  refusals_.warning(status_code_name(opened.code()), "ucx: cannot serve peer {:x}: {}", peer,
                    opened.message());
  link->send(encode_worker_refusal(opened));  // and its end closes the link behind it
}

void UcxTarget::drop(uint64_t peer) {
  std::erase_if(inbound_, [&](const auto& one) { return one->peer() == peer; });
  events_.slots().forget(peer);
}

void UcxTarget::lose(const Inbound& inbound, const Status& why) {
  const uint64_t peer = inbound.peer();
  const Status lost = why.with_context(fmt::format("connection from peer {:x}", peer));
  std::erase_if(inbound_, [&](const auto& one) { return one.get() == &inbound; });
  events_.lost(peer, Direction::kInbound, lost);
}

}  // namespace mempool
