// SPDX-License-Identifier: Apache-2.0
// Owns the connections that peers have made here.
#include "transport/verbs/verbs_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/check.h"

namespace mempool {
namespace {

// More than one while a peer connects anew before the loss of the old one is seen.
constexpr size_t kConnectionsOfOnePeer = 8;
constexpr size_t kConnectionsMost = 1024;
// Notifications under way on one queue pair; fewer than half the rounds of an Immediate.
constexpr uint16_t kNotificationsGranted = 16;

}  // namespace

/// One peer's connection. Thread: confined.
class VerbsTarget::Inbound final : public NotificationHandler, private SetupLinkOwner {
 public:
  Inbound(VerbsTarget& target, std::shared_ptr<SetupLink> link, uint64_t peer)
      : target_(target), shared_(target.shared_), peer_(peer), link_(std::move(link)) {
    link_->start(*this);
    link_->set_deadline(shared_.options.handshake_timeout);
  }

  ~Inbound() override {
    link_->close();
    for (size_t i = 0; i < rails_.size(); ++i) break_rail(i);
  }

  uint64_t peer() const { return peer_; }

  bool on_notification(Immediate immediate) override {
    const std::optional<Slot> slot = shared_.events->slots().open_at(peer_, immediate.slot);
    std::optional<uint32_t>& last = last_rounds_[immediate.lane];
    if (last && !is_later_round(immediate.round, *last)) return true;  // told before, sent again
    last = immediate.round;
    const uint32_t low = slot ? slot->generation % (1u << kGenerationBits) : 0;
    if (!slot || low != immediate.generation) return false;
    shared_.events->notified(peer_, *slot);
    return true;
  }

 private:
  struct Rail {
    std::vector<QueuePair> queues;
    uint32_t granted = 0;
  };

  Status on_note(std::span<const std::byte> bytes) override {
    MEMPOOL_ASSIGN_OR_RETURN(const SetupNote note, decode_note(bytes));
    if (const auto* connect = std::get_if<ConnectNote>(&note); connect && rails_.empty()) {
      link_->clear_deadline();
      const Status made = accept(*connect);
      if (!made.ok()) link_->send(encode_note(RefusedNote{made}));
      return made;
    }
    const auto* lost = std::get_if<RailLostNote>(&note);
    if (lost == nullptr || lost->rail >= rails_.size() || rails_[lost->rail].granted == 0) {
      return invalid_argument("a note that makes no sense here");
    }
    break_rail(lost->rail);
    link_->send(encode_note(RailGoneNote{lost->rail}));
    return {};
  }

  // As many rails as both ends have. One whose ports do not match is left to the dialer to find
  // out; the connection is refused when no rail is left.
  Status accept(const ConnectNote& note) {
    AcceptedNote answer{kNotificationsGranted, {}};
    Status why;
    size_t connected = 0;
    const size_t both = std::min(note.rails.size(), shared_.devices.size());
    for (size_t i = 0; i < both; ++i) {
      answer.rails.push_back({shared_.devices[i]->address(), {}});
      const Status made = make_rail(i, note.rails[i], answer.rails.back());
      if (made.code() == StatusCode::kResourceExhausted) return made;
      if (made.ok()) ++connected;
      if (!made.ok() && why.ok()) why = made;
    }
    if (connected == 0) return why;
    connected_ = true;
    link_->send(encode_note(answer));
    return {};
  }

  Status make_rail(size_t i, const RailAddress& peer, RailAddress& own) {
    ReceiveSide& side = *target_.sides_[i];
    Rail& rail = rails_.emplace_back();
    const auto notifications = static_cast<uint32_t>(peer.queues.size() * kNotificationsGranted);
    MEMPOOL_RETURN_IF_ERROR(side.grant(notifications));
    rail.granted = notifications;
    Status status;
    for (const QueueAddress& address : peer.queues) {
      MEMPOOL_ASSIGN_OR_RETURN(QueuePair queue,
                               QueuePair::create(*shared_.devices[i], shared_.options,
                                                 side.completions(), side.receives(), {}));
      if (status.ok()) status = queue.connect(peer.port, address);
      own.queues.push_back(queue.address());
      side.add(queue, *this);
      rail.queues.push_back(std::move(queue));
    }
    return status;
  }

  void break_rail(size_t i) {
    for (QueuePair& queue : rails_[i].queues) target_.sides_[i]->end(queue);
    target_.sides_[i]->take_back(std::exchange(rails_[i].granted, 0));
  }

  void on_closed(const Status& why) override {
    const std::shared_ptr<EventQueue> events = shared_.events;
    const uint64_t peer = peer_;
    const bool connected = connected_;
    target_.remove(this);  // hands over the notifications that have come
    if (!connected) return;
    events->lost(peer, Direction::kInbound, why.with_context(fmt::format("verbs peer {:x}", peer)));
  }

  VerbsTarget& target_;
  VerbsShared& shared_;
  const uint64_t peer_;
  std::shared_ptr<SetupLink> link_;
  std::vector<Rail> rails_;
  bool connected_ = false;
  std::array<std::optional<uint32_t>, kLanesMost> last_rounds_;  // by lane
};

VerbsTarget::VerbsTarget(VerbsShared& shared) : shared_(shared) {}

VerbsTarget::~VerbsTarget() = default;

Status VerbsTarget::open() {
  for (size_t i = 0; i < shared_.devices.size(); ++i) {
    MEMPOOL_ASSIGN_OR_RETURN(
        std::unique_ptr<ReceiveSide> side,
        ReceiveSide::create(*shared_.devices[i], *shared_.channels[i], shared_.options.receives));
    sides_.push_back(std::move(side));
  }
  return {};
}

bool VerbsTarget::adopt(std::shared_ptr<SetupLink> link, uint64_t peer) {
  const auto of_peer =
      std::ranges::count(inbound_, peer, [](const auto& inbound) { return inbound->peer(); });
  if (static_cast<size_t>(of_peer) >= kConnectionsOfOnePeer) return false;
  if (inbound_.size() >= kConnectionsMost) return false;
  inbound_.push_back(std::make_unique<Inbound>(*this, std::move(link), peer));
  return true;
}

void VerbsTarget::drop(uint64_t peer) {
  std::erase_if(inbound_, [peer](const auto& inbound) { return inbound->peer() == peer; });
}

void VerbsTarget::remove(const Inbound* inbound) {
  std::erase_if(inbound_, [inbound](const auto& one) { return one.get() == inbound; });
}

CallCounts VerbsTarget::counts() const {
  CallCounts counts;
  counts.system_calls.reset();
  for (const auto& side : sides_) {
    counts.completions += side->taken();
    counts.strays += side->strays();
  }
  return counts;
}

}  // namespace mempool
