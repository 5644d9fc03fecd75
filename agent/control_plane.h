// SPDX-License-Identifier: Apache-2.0
// Owns the control connections: listening, dialing, the handshake with its proofs, framing, and
// one session id for each connection that came through.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "agent/message.h"
#include "agent/wire.h"
#include "core/block_pool.h"
#include "core/log.h"
#include "mempool/status.h"

namespace boost::asio {
class io_context;
}

namespace mempool {

/// What the control plane tells the agent. Thread: confined to the io_context's thread.
class ControlEvents {
 public:
  virtual ~ControlEvents() = default;
  /// A peer dialed in and proved itself. Give what it may use here, or why not.
  virtual Result<Welcome> on_accepted(SessionId session, const PeerInfo& peer) = 0;
  /// A dial came through. `host` is where the peer's control plane was reached.
  virtual void on_dialed(const std::string& name, SessionId session, const PeerInfo& peer,
                         const std::string& host, const Welcome& welcome) = 0;
  virtual void on_dial_failed(const std::string& name, const Status& why) = 0;
  virtual void on_message(SessionId session, Message message) = 0;
  /// A peer that was dialed says what may be used there from now on.
  virtual void on_welcome(SessionId session, Welcome welcome) = 0;
  /// The session's connection is gone, by close() too.
  virtual void on_closed(SessionId session, const Status& why) = 0;
  /// All that was sent to one peer is with the kernel now.
  virtual void on_written() {}
};

/// Thread: confined to the io_context's thread, but for listen().
class ControlPlane {
 public:
  struct Options {
    std::string name;
    uint64_t incarnation = 0;
    std::string token;
    ContentId model;
    uint32_t max_connections = 1024;
    uint32_t max_handshakes = 64;  // connections that have not proven themselves yet
  };

  ControlPlane(boost::asio::io_context& io, const Options& options, ControlEvents& events);
  ~ControlPlane();

  /// Bind and accept. Errors: kPermissionDenied beyond loopback without a token; kUnavailable.
  Status listen(const std::string& address);
  /// The host:port that was bound.
  const std::string& address() const { return address_; }
  /// Connect to a peer; on_dialed() or on_dial_failed() follows.
  void dial(const std::string& name, const std::string& address);
  /// Queue a message, or, to one who dialed in, what may be used here from now on; of a session
  /// that is gone it is dropped. A peer that lets 64 MiB pile up is closed.
  void send(SessionId session, const Frame& frame);
  /// Tell whether all that was sent is with the kernel.
  bool all_written() const;
  /// Say on every session that a peer has dialed that no more answers come. The peer hears those
  /// that were sent before, and then closes it. Requires: all_written().
  void hang_up();
  /// Tell whether some peer has yet to close a session of hang_up().
  bool hanging_up() const;
  /// Break a session; on_closed() follows.
  void close(SessionId session, const Status& why);
  /// Stop accepting and break every connection, without events.
  void shutdown();

 private:
  class Connection;
  class Listener;
  friend class Connection;

  boost::asio::io_context& io_;
  Options options_;
  ControlEvents& events_;
  std::string address_;
  std::unique_ptr<Listener> listener_;
  std::map<SessionId, std::shared_ptr<Connection>> sessions_;  // shared with its own pending reads
  SessionId next_session_ = 0;
  // Connections without a proof yet; shared because pending reads may outlive the plane.
  std::shared_ptr<uint32_t> handshakes_ = std::make_shared<uint32_t>(0);
  BoundedLog refusals_;  // of those who dialed in
};

}  // namespace mempool
