// SPDX-License-Identifier: Apache-2.0
// Owns the virtual network: links that delay, clog and lose, and the control sessions over them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/action.h"
#include "agent/message.h"
#include "tests/simulation/run.h"
#include "transport/transport.h"

namespace mempool::simulation {

class Instance;
class DataPlane;

/// One control session with its data connection, as each end sees it.
struct Connection {
  enum Side : size_t { kDialer, kAcceptor };
  struct End {
    Instance* instance = nullptr;
    bool up = false;
    TimePoint last_arrival;  // at this end, where messages keep their order
  };

  SessionId session = 0;  // the same word at both ends
  std::array<End, 2> ends;
  bool answered = false;  // the dialer knows how the dial ended
  bool goodbye = false;   // the dialer has said that it needs it no more
  PeerInfo target;        // what the acceptor said of itself
  // ---- the data plane's ----
  bool fenced = false;           // nothing that it carries can land any more
  std::vector<TimePoint> lanes;  // when the last thing sent on each lane lands
  std::vector<Slot> open_slots;  // where the target checks writes
};

/// Thread: confined.
class Network {
 public:
  explicit Network(Run& run);
  ~Network();
  Network(const Network&) = delete;

  /// Let an instance be reached by its name, in the place of an earlier one of that name.
  void attach(Instance& instance);
  /// An instance's process is gone: some peers hear of it, others will miss its heartbeats.
  void detach(Instance& instance);
  DataPlane& data() { return *data_; }

  // ---- what instances ask for ----
  void dial(Instance& dialer, const std::string& peer);
  void send(Instance& from, SessionId session, const Message& message);
  void fence(Instance& target, SessionId session);
  /// The source of an inbound session needs it no more.
  void close(Instance& target, SessionId session);
  /// The instance has heard nothing for too long.
  void give_up(Instance& from, SessionId session);
  Connection& connection(SessionId session) { return *connections_.at(session); }

  // ---- what goes wrong ----
  /// Hold everything on the way from one place to another until unclogged.
  void clog(uint32_t from, uint32_t to);
  void unclog(uint32_t from, uint32_t to);
  void unclog_all();
  /// Break a random session, at a random end first.
  void break_one();
  void break_all();

  /// Carry an event from one place to another.
  void deliver(uint32_t from, uint32_t to, Duration delay, std::function<void()> event);
  uint32_t place(const std::string& name) const;
  /// The live instance of a name, or null.
  Instance* find(const std::string& name) const;

 private:
  struct Link {
    bool clogged = false;
    std::vector<std::function<void()>> held;
  };

  Connection::Side side_of(const Instance& instance, SessionId session);
  void accept(Connection& connection, Instance& acceptor);
  void answer_dial(Connection& connection, const Status& status);
  void fail_dial(Connection& connection, const Status& status);
  /// One end takes the session as made.
  void gain(Connection& connection, Connection::Side side);
  /// One end takes the session as over, and the other will learn of it.
  void lose(Connection& connection, Connection::Side side, const std::string& why);
  void tell_closed(Connection& connection, Connection::Side side);
  void carry(Connection& connection, Connection::Side from, const Message& message);
  void receive(Connection& connection, Connection::Side side, const Message& message);

  Run& run_;
  std::unique_ptr<DataPlane> data_;
  std::map<std::string, Instance*> instances_;  // the live one of each name
  std::map<std::string, uint32_t> places_;
  std::map<std::pair<uint32_t, uint32_t>, Link> links_;
  std::map<SessionId, std::unique_ptr<Connection>> connections_;  // kept until the run ends
  SessionId next_session_;
};

}  // namespace mempool::simulation
