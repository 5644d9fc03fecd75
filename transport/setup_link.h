// SPDX-License-Identifier: Apache-2.0
// Owns the proven connection beside an RDMA connection: over it both ends set up what a NIC needs
// of the other side (queue pairs, worker addresses), and its end is the end of what was set up.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "mempool/status.h"

namespace mempool {

/// What a link tells, never from inside one of its calls. Thread: confined, as its link.
class SetupLinkOwner {
 public:
  virtual ~SetupLinkOwner() = default;
  /// The other end sent this. It has proven the token and may send anything all the same. An error
  /// ends the link: on_closed() follows with it. The owner may go instead.
  virtual Status on_note(std::span<const std::byte> note) = 0;
  /// The link is closed by the other end or by an error; the owner may go now.
  virtual void on_closed(const Status& why) = 0;
};

/// Carries notes of at most kSetupNoteBytesMax, in order: `length u32 | bytes`. Shared, because a
/// handler that waits for the socket may run after the owner is gone; it then finds the link
/// closed. Thread: confined to the io_context's thread.
class SetupLink : public std::enable_shared_from_this<SetupLink> {
 public:
  SetupLink(boost::asio::ip::tcp::socket socket, SetupLinkOwner& owner);

  /// Begin to read. Once.
  void start();
  /// Another owner from now on.
  void set_owner(SetupLinkOwner& owner) { owner_ = &owner; }
  void send(std::span<const std::byte> note);
  /// End with kUnavailable unless clear_deadline() comes before the time is over.
  void set_deadline(std::chrono::milliseconds time);
  void clear_deadline();
  /// Close without a word to the owner; what was sent is still on its way.
  void close();
  bool closed() const { return owner_ == nullptr; }

 private:
  void read_length();
  void read_note();
  void write();
  void fail(const Status& why);

  boost::asio::ip::tcp::socket socket_;
  SetupLinkOwner* owner_;  // null once closed
  boost::asio::steady_timer deadline_;
  std::vector<std::byte> incoming_;
  std::deque<std::vector<std::byte>> outgoing_;  // the first is being written
};

inline constexpr size_t kSetupNoteBytesMax = size_t{64} << 10;

}  // namespace mempool
