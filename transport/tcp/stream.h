// SPDX-License-Identifier: Apache-2.0
// Owns one connected socket of the tcp backend: waits by Asio, moves bytes by readv and sendmsg.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <vector>

#include "transport/tcp/frame_queue.h"
#include "transport/tcp/frame_reader.h"

namespace mempool {

class Stream;

/// What a stream asks and tells. Thread: confined, as its stream.
class StreamOwner : public FrameHandler, public FrameQueueListener {
 public:
  /// The stream is closed by the peer or by an error; the owner may go now.
  virtual void on_closed(const Status& why) = 0;
};

/// Shared, because a handler that waits for the socket may run after the owner is gone; it then
/// finds the stream closed. Thread: confined to the io_context's thread.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  /// `counts` outlives close(); sent frames and system calls are added to it.
  Stream(boost::asio::ip::tcp::socket socket, StreamOwner& owner, size_t queue_capacity,
         CallCounts& counts);

  /// Begin to read. Once.
  void start();
  FrameQueue& queue() { return queue_; }
  FrameReader& reader() { return reader_; }
  /// Send what the queue holds, soon but not from inside this call.
  void flush();
  /// Close without a word to the owner.
  void close();

 private:
  void wait_readable();
  void on_readable();
  void wait_writable();
  void on_writable();
  ssize_t receive();
  ssize_t send();
  void fail(const Status& why);

  boost::asio::ip::tcp::socket socket_;
  StreamOwner* owner_;  // null once closed
  CallCounts& counts_;
  FrameReader reader_;
  FrameQueue queue_;
  std::vector<iovec> places_;  // scratch of receive()
  std::vector<iovec> pieces_;  // scratch of send()
  size_t pieces_bytes_ = 0;
  size_t places_bytes_ = 0;
  bool sending_ = false;  // a handler will call on_writable()
};

}  // namespace mempool
