// SPDX-License-Identifier: Apache-2.0
// Owns the steps of dialing, carrying messages, missing heartbeats and breaking sessions.
#include "tests/simulation/network.h"

#include <algorithm>
#include <utility>

#include "agent/source_machine.h"
#include "tests/simulation/data_plane.h"
#include "tests/simulation/instance.h"
#include "tests/simulation/protocol_times.h"

namespace mempool::simulation {
namespace {

constexpr Duration kShort = std::chrono::microseconds(50);

Connection::Side other(Connection::Side side) {
  return side == Connection::kDialer ? Connection::kAcceptor : Connection::kDialer;
}

}  // namespace

Network::Network(Run& run)
    : run_(run), data_(std::make_unique<DataPlane>(run, *this)), next_session_(kFirstPeerSession) {}

Network::~Network() = default;

void Network::attach(Instance& instance) {
  instances_[instance.name()] = &instance;
  places_.emplace(instance.name(), static_cast<uint32_t>(places_.size()));
}

void Network::detach(Instance& instance) {
  instances_.erase(instance.name());
  for (auto& [session, connection] : connections_) {
    for (const auto side : {Connection::kDialer, Connection::kAcceptor}) {
      Connection::End& end = connection->ends[side];
      if (end.instance != &instance || !std::exchange(end.up, false)) continue;
      if (run_.random().chance(0.7)) tell_closed(*connection, other(side));
    }
  }
}

uint32_t Network::place(const std::string& name) const {
  return places_.at(name);
}

Instance* Network::find(const std::string& name) const {
  const auto live = instances_.find(name);
  return live == instances_.end() ? nullptr : live->second;
}

// ---- links -----------------------------------------------------------------------------------

void Network::deliver(uint32_t from, uint32_t to, Duration delay, std::function<void()> event) {
  run_.after(delay, [this, from, to, event = std::move(event)]() mutable {
    Link& link = links_[{from, to}];
    if (link.clogged) {
      link.held.push_back(std::move(event));
    } else {
      event();
    }
  });
}

void Network::clog(uint32_t from, uint32_t to) {
  run_.trace("link {} -> {} clogs", from, to);
  links_[{from, to}].clogged = true;
}

void Network::unclog(uint32_t from, uint32_t to) {
  Link& link = links_[{from, to}];
  if (!std::exchange(link.clogged, false)) return;
  run_.trace("link {} -> {} runs again, {} held", from, to, link.held.size());
  for (std::function<void()>& event : std::exchange(link.held, {})) event();
}

void Network::unclog_all() {
  for (auto& [ends, link] : links_) unclog(ends.first, ends.second);
}

// ---- sessions --------------------------------------------------------------------------------

void Network::dial(Instance& dialer, const std::string& peer) {
  const SessionId session = next_session_++;
  Connection& connection = *(connections_[session] = std::make_unique<Connection>());
  connection.session = session;
  connection.ends[Connection::kDialer].instance = &dialer;
  connection.lanes.resize(run_.options().lanes);
  connection.target.name = peer;
  run_.trace("{} dials {} for session {}", dialer.name(), peer, session);
  if (run_.faulty(run_.options().dial_failure)) {
    run_.after(kShort, [this, &connection] {
      connection.ends[Connection::kDialer].instance->in_process(
          [this, &connection] { fail_dial(connection, unavailable("no route to the peer")); });
    });
    return;
  }
  deliver(place(dialer.name()), place(peer), run_.draw(run_.options().control),
          [this, &connection, peer] {
            const auto acceptor = instances_.find(peer);
            if (acceptor == instances_.end()) {
              answer_dial(connection, unavailable("the connection was refused"));
              return;
            }
            acceptor->second->in_process([this, &connection, instance = acceptor->second] {
              accept(connection, *instance);
            });
          });
  run_.after(kDialTimeout, [this, &connection] {
    connection.ends[Connection::kDialer].instance->in_process(
        [this, &connection] { fail_dial(connection, unavailable("no answer in time")); });
  });
}

void Network::accept(Connection& connection, Instance& acceptor) {
  Connection::End& end = connection.ends[Connection::kAcceptor];
  end.instance = &acceptor;
  const Instance& dialer = *connection.ends[Connection::kDialer].instance;
  const Status status = acceptor.target().on_session_up(connection.session, dialer.introduction());
  if (status.ok()) {
    gain(connection, Connection::kAcceptor);
    connection.target = acceptor.introduction();
    connection.target.segments = acceptor.plan_segments();
  }
  answer_dial(connection, status);
}

/// Carry the answer of a dial to the dialer, whoever gives it.
void Network::answer_dial(Connection& connection, const Status& status) {
  Instance& dialer = *connection.ends[Connection::kDialer].instance;
  deliver(place(connection.target.name), place(dialer.name()), run_.draw(run_.options().control),
          [this, &connection, &dialer, status] {
            dialer.in_process([this, &connection, &dialer, status] {
              if (!status.ok()) return fail_dial(connection, status);
              if (std::exchange(connection.answered, true)) {  // given up since
                tell_closed(connection, Connection::kAcceptor);
                return;
              }
              run_.trace("{} has session {} to {}", dialer.name(), connection.session,
                         connection.target.name);
              gain(connection, Connection::kDialer);
              dialer.source().on_session_up(connection.target.name, connection.session,
                                            connection.target, run_.now());
            });
          });
}

void Network::fail_dial(Connection& connection, const Status& status) {
  if (std::exchange(connection.answered, true)) return;
  Instance& dialer = *connection.ends[Connection::kDialer].instance;
  run_.trace("{} fails to dial {}: {}", dialer.name(), connection.target.name, status.to_string());
  dialer.source().on_dial_failed(connection.target.name, status, run_.now());
}

void Network::gain(Connection& connection, Connection::Side side) {
  connection.ends[side].up = true;
  connection.ends[side].instance->watch(connection.session);
}

void Network::lose(Connection& connection, Connection::Side side, const std::string& why) {
  Connection::End& end = connection.ends[side];
  if (!std::exchange(end.up, false)) return;
  run_.trace("{} loses session {}: {}", end.instance->name(), connection.session, why);
  end.instance->unwatch(connection.session);
  if (side == Connection::kDialer) {
    end.instance->source().on_session_down(connection.session, unavailable(why), run_.now());
    data_->cut(connection);
  } else {
    end.instance->target().on_session_down(connection.session);
  }
  tell_closed(connection, other(side));
}

void Network::tell_closed(Connection& connection, Connection::Side side) {
  Connection::End& end = connection.ends[side];
  if (end.instance == nullptr) return;
  const std::string& from = side == Connection::kAcceptor
                                ? connection.ends[Connection::kDialer].instance->name()
                                : connection.target.name;
  deliver(place(from), place(end.instance->name()), run_.draw(run_.options().control),
          [this, &connection, &end, side] {
            if (!end.up) return;
            end.instance->in_process(
                [this, &connection, side] { lose(connection, side, "the peer closed it"); });
          });
}

void Network::fence(Instance& target, SessionId session) {
  run_.trace("{} fences session {}", target.name(), session);
  // A source that brought wrong bytes is fenced, whatever it says.
  const bool believed = connection(session).goodbye && run_.options().corrupt == 0;
  if (believed && connection(session).ends[Connection::kAcceptor].up) {
    run_.fail(target.name() + " has something open on a session that its source has left");
  }
  run_.after(run_.draw(run_.options().data), [this, &target, session] {
    target.in_process([this, &target, session] {
      Connection& over = connection(session);
      run_.trace("{} has fenced session {}", target.name(), session);
      over.fenced = true;
      over.ends[Connection::kAcceptor].up = false;
      target.unwatch(session);
      tell_closed(over, Connection::kDialer);
      target.target().on_fenced(session);
    });
  });
}

void Network::close(Instance& target, SessionId session) {
  lose(connection(session), side_of(target, session), "its source needs it no more");
}

void Network::give_up(Instance& from, SessionId session) {
  lose(connection(session), side_of(from, session), "the peer is silent");
}

void Network::break_one() {
  std::vector<std::pair<Connection*, Connection::Side>> ends;
  for (auto& [session, connection] : connections_) {
    for (const auto side : {Connection::kDialer, Connection::kAcceptor}) {
      if (connection->ends[side].up) ends.emplace_back(connection.get(), side);
    }
  }
  if (ends.empty()) return;
  const auto [connection, side] = ends[run_.random().below(ends.size())];
  connection->ends[side].instance->in_process(
      [this, connection, side] { lose(*connection, side, "the connection broke"); });
}

void Network::break_all() {
  for (auto& [session, connection] : connections_) {
    for (const auto side : {Connection::kDialer, Connection::kAcceptor}) {
      Instance* instance = connection->ends[side].instance;
      if (instance == nullptr) continue;
      instance->in_process([this, connection = connection.get(), side] {
        lose(*connection, side, "the connection broke");
      });
    }
  }
}

Connection::Side Network::side_of(const Instance& instance, SessionId session) {
  const bool dialed = connection(session).ends[Connection::kDialer].instance == &instance;
  return dialed ? Connection::kDialer : Connection::kAcceptor;
}

// ---- messages --------------------------------------------------------------------------------

void Network::send(Instance& from, SessionId session, const Message& message) {
  Connection& over = connection(session);
  const Connection::Side side = side_of(from, session);
  over.goodbye = over.goodbye || std::holds_alternative<Goodbye>(message);
  if (over.ends[side].up) carry(over, side, message);
}

void Network::carry(Connection& connection, Connection::Side from, const Message& message) {
  const SimulationOptions& options = run_.options();
  const Connection::Side to = other(from);
  Connection::End& end = connection.ends[to];
  // A session that loses heartbeats ends, which is no way to heal.
  const bool reliable = run_.healed() && std::holds_alternative<Heartbeat>(message);
  const uint32_t copies = !reliable && run_.random().chance(options.duplicate) ? 2 : 1;
  for (uint32_t copy = 0; copy < copies; ++copy) {
    if (!reliable && run_.random().chance(options.drop)) continue;
    TimePoint arrival = run_.now() + run_.draw(options.control);
    if (options.ordered_control) arrival = std::max(arrival, end.last_arrival);
    end.last_arrival = arrival;
    deliver(place(connection.ends[from].instance->name()), place(end.instance->name()),
            arrival - run_.now(),
            [this, &connection, to, message] { receive(connection, to, message); });
  }
}

void Network::receive(Connection& connection, Connection::Side side, const Message& message) {
  Connection::End& end = connection.ends[side];
  if (end.instance->stopped()) {
    end.instance->in_process(
        [this, &connection, side, message] { receive(connection, side, message); });
    return;
  }
  if (end.up) end.instance->take(connection.session, side, message);
}

}  // namespace mempool::simulation
