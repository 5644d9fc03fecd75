// SPDX-License-Identifier: Apache-2.0
// Owns the agent's one thread: the loop it runs, what is handed to it, its one timer, and the
// waiting for descriptors.
#pragma once

#include <functional>
#include <memory>

#include "core/clock.h"
#include "transport/loop.h"

namespace boost::asio {
class io_context;
}

namespace mempool {

/// Thread: post() is safe; start() and stop_and_join() are the owner's; the rest is confined to the
/// loop's thread, or to the owner before start().
class EventLoop {
 public:
  EventLoop();
  /// Requires: not started, or joined.
  ~EventLoop();

  /// What sockets and backends run on.
  boost::asio::io_context& io();
  Loop& backends();  // the same, as backends see it
  void start();
  /// Run `last` on the thread, after all that was handed to it so far, and end it. Nothing happens
  /// where it was not started.
  void stop_and_join(std::function<void()> last);
  void post(std::function<void()> action);
  /// Run `action` at `when`, in the place of what was to run before; TimePoint::max() for never.
  void wake_at(TimePoint when, std::function<void()> action);
  /// When the timer was to run last; how late it is tells how long the thread was busy.
  TimePoint due() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Waits for one descriptor, which is borrowed and outlives it. Nothing is called after its end.
/// Thread: confined to the loop's thread.
class Watch {
 public:
  Watch(EventLoop& loop, int descriptor);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// Call once, from the loop, when there is something to read, or the end of it.
  void when_readable(std::function<void()> action);
  /// Call once, from the loop, when it takes bytes again.
  void when_writable(std::function<void()> action);

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;  // shared with handlers on their way, which find it closed
};

}  // namespace mempool
