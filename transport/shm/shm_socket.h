// SPDX-License-Identifier: Apache-2.0
// Owns the Unix sockets of the shm backend: waits by Asio, moves frames and descriptors by sendmsg
// and recvmsg.
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "transport/shm/shm_frame.h"
#include "transport/shm/shm_mapping.h"

namespace mempool {

/// What a socket asks and tells. Thread: confined, as its socket.
class ShmSocketOwner {
 public:
  virtual ~ShmSocketOwner() = default;
  /// Asked before each frame: true when there was something else to do, and the loop is to have its
  /// turn before the next. The owner may go inside. A failed result breaks the connection.
  virtual Result<bool> on_turn() = 0;
  /// A frame has come; `body` is borrowed. A failed status breaks the connection.
  virtual Status on_frame(const ShmHeader& header, std::span<const std::byte> body) = 0;
  /// What came is no frame of ours: the last chance to say so, before on_closed().
  virtual void on_unreadable(const Status& why) = 0;
  /// The socket is closed, by the peer or by an error; the owner may go now.
  virtual void on_closed(const Status& why) = 0;
};

/// One connection. Hands out one frame in a turn of the loop, so that others on the thread have
/// theirs between two lists. Frames sent keep their memory for the next ones. Shared, because a
/// handler that waits may run after the owner is gone; it then finds the socket closed.
/// Thread: confined to the io_context's thread.
class ShmSocket : public std::enable_shared_from_this<ShmSocket> {
 public:
  ShmSocket(boost::asio::io_context& io, Descriptor connected, ShmSocketOwner& owner);

  /// Check that the other end is a process of our user. Errors: kPermissionDenied.
  Status check_user() const;
  /// Begin to read. Once.
  void start();
  /// Fail with kUnavailable unless end_deadline() comes in time.
  void set_deadline(std::chrono::milliseconds timeout);
  void end_deadline() { deadline_.cancel(); }
  /// Queue a frame and give where its body goes, to be written at once, before flush().
  std::byte* add(const ShmHeader& header, Descriptor descriptor = {});
  /// Send what is queued, as far as the kernel takes it now; the rest goes when it takes more.
  void flush();
  /// Tell whether another frame is here already, and comes in the next turn.
  bool holds_frame() const;
  /// Frames that wait to be sent.
  size_t queued() const { return order_.size(); }
  /// Send no list and notification of the slot that has not begun.
  void stop(Slot slot);
  /// Take the descriptor that came with the frame at hand. Errors: kInvalidArgument.
  Result<Descriptor> take_descriptor();
  /// Break the connection in the next turn.
  void fail_later(const Status& why);
  /// Close without a word to the owner.
  void close();
  uint64_t system_calls() const { return system_calls_; }

 private:
  struct Outgoing {
    ShmHeader header;
    std::vector<std::byte> bytes;  // the first `size` of them
    size_t size = 0;
    size_t sent = 0;
    Descriptor descriptor;
  };

  void schedule();
  void turn();
  void wait_readable();
  void wait_writable();
  void fail(const Status& why);
  Result<bool> has_frame(ShmHeader& header) const;
  Result<bool> receive();
  Status keep_descriptors(msghdr& message);
  ssize_t send();
  void sent(size_t bytes);
  bool is_full() const { return order_.size() >= kQueuedMax; }

  // Answers that wait for the peer to read them; the peer's frames wait then too. More than the
  // memory that two ends give each other at the start, each without reading.
  static constexpr size_t kQueuedMax = 4096;

  boost::asio::local::stream_protocol::socket socket_;
  boost::asio::steady_timer deadline_;
  ShmSocketOwner* owner_;  // null once closed
  Status failure_;         // told in the next turn
  std::vector<std::byte> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::deque<Descriptor> descriptors_;  // that came and were not taken
  std::deque<Outgoing> frames_;
  std::vector<size_t> order_;  // of the frames that wait
  std::vector<size_t> spare_;
  uint64_t system_calls_ = 0;
  bool scheduled_ = false;         // turn() will be called
  bool waiting_readable_ = false;  // likewise, when something comes
  bool waiting_writable_ = false;  // flush() will be called
  bool paused_ = false;            // turn() comes when answers have gone
};

/// Connect to an abstract name. Errors: kUnavailable, saying what the reason may be.
Result<Descriptor> dial_shm(const std::string& name);

/// Listens on an abstract name. Shared as a socket is. Thread: confined.
class ShmListener : public std::enable_shared_from_this<ShmListener> {
 public:
  using Handler = std::function<void(Descriptor)>;

  /// Errors: kUnavailable.
  static Result<std::shared_ptr<ShmListener>> open(boost::asio::io_context& io,
                                                   const std::string& name, Handler on_connection);
  /// Call the handler no more.
  void close();

 private:
  ShmListener(boost::asio::io_context& io, Handler on_connection)
      : acceptor_(io), pause_(io), on_connection_(std::move(on_connection)) {}
  void accept();

  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer pause_;
  Handler on_connection_;  // empty once closed
};

/// Call `action` from the loop, not from inside.
void run_later(boost::asio::io_context& io, std::function<void()> action);

}  // namespace mempool
