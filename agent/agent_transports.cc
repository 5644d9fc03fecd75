// SPDX-License-Identifier: Apache-2.0
// Owns the agent's side of its transports: their events, which of them open at start, what a peer
// is told of them, and which one a session gets. What is not used keeps its reason, at both ends.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "agent/agent_impl.h"
#include "agent/told_segments.h"
#include "core/check.h"
#include "core/listen_socket.h"
#include "core/log.h"

namespace mempool {
namespace {

constexpr char kRdma[] = "rdma";  // of agent.require: any transport by which a NIC moves the bytes

bool satisfies(const Capabilities& offers, const std::string& required) {
  return offers.name == required || (required == kRdma && offers.rdma);
}

}  // namespace

/// One backend's events. Thread: confined to the agent's thread.
class Agent::Impl::Port : public TransportEvents {
 public:
  explicit Port(Impl& impl) : impl_(impl) {}

  void on_completion(uint64_t cookie, const Status& status) override {
    impl_.mover_->on_completion(cookie, status);
  }
  void on_notified(uint64_t peer, Slot slot) override { impl_.on_peer_notified(peer, slot); }
  void on_lost(uint64_t peer, Direction direction, const Status& why) override {
    // Inbound: the session's own end, or its deadlines, say what becomes of its transfers.
    if (direction == Direction::kOutbound) impl_.close_dialed(peer, why);
  }
  void on_fenced(uint64_t peer) override { impl_.on_peer_fenced(peer); }
  bool admits(uint64_t peer, Slot slot, Operation operation, uint32_t region, uint64_t offset,
              uint64_t bytes) override {
    const SlotTable::Entry* entry = impl_.target_->find_slot(slot);
    if (entry == nullptr || impl_.sessions_.at(entry->session).peer.incarnation != peer) {
      return false;
    }
    return impl_.target_->admits(entry->session, slot, operation, region, offset, bytes);
  }

 private:
  Impl& impl_;
};

Status Agent::Impl::open_transports() {
  TransportRegistry registry;
  register_transports(registry);
  TransportContext context;
  context.io = &loop_.io();
  context.loop = &loop_.backends();
  context.incarnation = incarnation_;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(options_.listen, context.bind_host, port));
  MEMPOOL_RETURN_IF_ERROR(check_bind(context.bind_host, options_.token));
  context.token = options_.token;
  for (const std::string& name : options_.transports) {
    context.options.clear();
    for (const auto& [key, value] : options_.transport_options) {
      if (key.starts_with(name + ".")) context.options[key.substr(name.size() + 1)] = value;
    }
    ports_.push_back(std::make_unique<Port>(*this));
    context.events = ports_.back().get();
    Result<std::unique_ptr<Transport>> transport = open_transport(registry, name, context);
    if (transport.ok()) {
      transports_.push_back(std::move(*transport));
    } else {
      log().warning("transport '{}' is off: {}", name, transport.status().message());
      closed_transports_[name] = transport.status().message();
    }
  }
  return check_required();
}

Result<std::unique_ptr<Transport>> Agent::Impl::open_transport(const TransportRegistry& registry,
                                                               const std::string& name,
                                                               const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport, registry.open(name, context));
  const bool may_carry = std::ranges::any_of(options_.require, [&](const std::string& required) {
    return satisfies(transport->capabilities(), required);
  });
  if (!options_.require.empty() && !may_carry) {
    return unsupported(
        fmt::format("agent.require names {} alone", fmt::join(options_.require, ", ")));
  }
  for (const PoolSegment* segment : pool_->segments().all()) {
    MEMPOOL_RETURN_IF_ERROR(transport->register_region(region_of(*pool_, *segment)));
  }
  return transport;
}

Status Agent::Impl::check_required() const {
  std::vector<std::string> closed;
  for (const auto& [name, why] : closed_transports_) {
    closed.push_back(fmt::format("{}: {}", name, why));
  }
  for (const std::string& required : options_.require) {
    const bool open = std::ranges::any_of(
        transports_, [&](const auto& each) { return satisfies(each->capabilities(), required); });
    if (open) continue;
    if (required != kRdma && !closed_transports_.contains(required)) {
      return unavailable(fmt::format(
          "required transport '{}' is not in agent.transports; add it there", required));
    }
    return unavailable(
        fmt::format("required transport '{}' is not open ({})", required, fmt::join(closed, "; ")));
  }
  if (!transports_.empty()) return {};
  return unavailable(fmt::format("no transport could be opened ({})", fmt::join(closed, "; ")));
}

Welcome Agent::Impl::make_welcome() const {
  Welcome welcome;
  welcome.model = content_.model;
  welcome.segments = plan_segments(*pool_);
  for (const auto& transport : transports_) {
    TransportOffer& offer = welcome.transports.emplace_back();
    offer.name = transport->capabilities().name;
    for (const PlanSegment& segment : welcome.segments) {
      Result<std::vector<std::byte>> key = transport->export_key(segment.region);
      if (key.ok()) offer.keys.push_back({segment.region, std::move(*key)});
    }
  }
  for (const auto& [name, why] : closed_transports_) welcome.closed.push_back({name, why});
  return welcome;
}

Welcome Agent::Impl::welcome_for(uint64_t peer) {
  Welcome welcome = make_welcome();
  for (size_t i = transports_.size(); i-- > 0;) {
    TransportOffer& offer = welcome.transports[i];
    Result<std::vector<std::byte>> address = transports_[i]->address_for(peer);
    if (address.ok()) {
      offer.address = std::move(*address);
      continue;
    }
    welcome.closed.push_back({offer.name, std::string(address.status().message())});
    welcome.transports.erase(welcome.transports.begin() + static_cast<ptrdiff_t>(i));
  }
  return welcome;
}

std::string Agent::Impl::why_not(const Welcome& welcome, const std::string& name) const {
  const auto own = closed_transports_.find(name);
  if (own != closed_transports_.end()) return fmt::format("{}: {}", name, own->second);
  for (const ClosedTransport& theirs : welcome.closed) {
    if (theirs.name == name) return fmt::format("{}: not at the peer: {}", name, theirs.why);
  }
  return fmt::format("{}: not at the peer; see its agent.transports", name);
}

void Agent::Impl::connect_transport(SessionId session, size_t choice) {
  Session* state = nullptr;
  {
    const std::lock_guard lock(mutex_);
    auto it = sessions_.find(session);
    if (it == sessions_.end()) return;  // closed while a connect was under way
    state = &it->second;                // changed and erased on this thread only
  }
  while (choice < options_.transports.size()) {
    const std::string& name = options_.transports[choice];
    const auto own = std::find_if(transports_.begin(), transports_.end(), [&](const auto& each) {
      return each->capabilities().name == name;
    });
    const auto theirs =
        std::find_if(state->welcome.transports.begin(), state->welcome.transports.end(),
                     [&](const TransportOffer& offer) { return offer.name == name; });
    if (own != transports_.end() && theirs != state->welcome.transports.end()) {
      (*own)->connect(state->peer.incarnation, state->host, theirs->address,
                      [this, session, choice](Result<std::unique_ptr<Endpoint>> endpoint) {
                        on_endpoint(session, choice, std::move(endpoint));
                      });
      return;
    }
    const std::lock_guard lock(mutex_);
    state->refusals.push_back(why_not(state->welcome, name));
    ++choice;
  }
  control_->close(session,
                  unavailable(fmt::format("no transport reaches '{}' ({})", state->peer.name,
                                          fmt::join(state->refusals, "; "))));
}

void Agent::Impl::on_endpoint(SessionId session, size_t choice,
                              Result<std::unique_ptr<Endpoint>> endpoint) {
  const std::string& name = options_.transports[choice];
  const Capabilities* offers = nullptr;
  for (const auto& transport : transports_) {
    if (transport->capabilities().name == name) offers = &transport->capabilities();
  }
  Status status = endpoint.status();
  PeerInfo peer;
  std::vector<std::string> refusals;
  {
    const std::lock_guard lock(mutex_);
    auto it = sessions_.find(session);
    if (it == sessions_.end()) return;
    Session& state = it->second;
    for (const TransportOffer& offer : state.welcome.transports) {
      if (offer.name != name) continue;
      for (const TransportOffer::Key& key : offer.keys) {
        if (status.ok()) status = (*endpoint)->import_key(key.region, key.key);
      }
    }
    if (!status.ok()) state.refusals.push_back(fmt::format("{}: {}", name, status.to_string()));
    peer = state.peer;
    refusals = state.refusals;
  }
  if (!status.ok()) {
    connect_transport(session, choice + 1);
    return;
  }
  std::string route = (*endpoint)->route();
  mover_->add_link(session, std::move(*endpoint), *offers, peer.segments);
  log().info("connected to '{}' over {}{}{}", peer.name, name, route.empty() ? "" : ": ", route);
  if (!refusals.empty()) {
    log().info("not used to '{}': {}", peer.name, fmt::join(refusals, "; "));
  }
  {
    const std::lock_guard lock(mutex_);
    Session& state = sessions_.at(session);
    state.up = true;
    state.transport = name;
    state.route = std::move(route);
    show_peer(state);
    source_->on_session_up(peer.name, session, peer, clock_.now());
  }
  pump();
}

}  // namespace mempool
