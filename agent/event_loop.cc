// SPDX-License-Identifier: Apache-2.0
// Owns the way from Asio's loop to plain functions.
#include "agent/event_loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <exception>
#include <thread>
#include <utility>

#include "core/log.h"
#include "transport/asio_loop.h"

namespace mempool {

namespace asio = boost::asio;

struct EventLoop::Parts {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  asio::steady_timer timer{io};
  AsioLoop backends{io};
  std::thread thread;
};

EventLoop::EventLoop() : parts_(std::make_unique<Parts>()) {}

EventLoop::~EventLoop() = default;

asio::io_context& EventLoop::io() {
  return parts_->io;
}

Loop& EventLoop::backends() {
  return parts_->backends;
}

void EventLoop::start() {
  parts_->thread = std::thread([parts = parts_.get()] {
    try {
      parts->io.run();
    } catch (const std::exception& error) {
      log().error("the agent's thread ended: {}", error.what());
      std::abort();  // a handler threw: a defect, and going on would hang every call
    }
  });
}

void EventLoop::stop_and_join(std::function<void()> last) {
  if (!parts_->thread.joinable()) return;
  asio::post(parts_->io, [parts = parts_.get(), last = std::move(last)] {
    last();
    parts->io.stop();
  });
  parts_->thread.join();
}

void EventLoop::post(std::function<void()> action) {
  asio::post(parts_->io, std::move(action));
}

void EventLoop::wake_at(TimePoint when, std::function<void()> action) {
  if (when == TimePoint::max()) {
    parts_->timer.cancel();
    return;
  }
  parts_->timer.expires_at(when);
  parts_->timer.async_wait([action = std::move(action)](boost::system::error_code error) {
    if (!error) action();
  });
}

TimePoint EventLoop::due() const {
  return parts_->timer.expiry();
}

struct Watch::Parts {
  explicit Parts(asio::io_context& io, int number) : descriptor(io, number) {}
  asio::posix::stream_descriptor descriptor;
  bool closed = false;
};

Watch::Watch(EventLoop& loop, int descriptor)
    : parts_(std::make_shared<Parts>(loop.io(), descriptor)) {}

Watch::~Watch() {
  parts_->closed = true;
  parts_->descriptor.release();
}

void Watch::when_readable(std::function<void()> action) {
  parts_->descriptor.async_wait(
      asio::posix::stream_descriptor::wait_read,
      [parts = parts_, action = std::move(action)](boost::system::error_code error) {
        if (!error && !parts->closed) action();
      });
}

void Watch::when_writable(std::function<void()> action) {
  parts_->descriptor.async_wait(
      asio::posix::stream_descriptor::wait_write,
      [parts = parts_, action = std::move(action)](boost::system::error_code error) {
        if (!error && !parts->closed) action();
      });
}

}  // namespace mempool
