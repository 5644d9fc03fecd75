// SPDX-License-Identifier: Apache-2.0
// Owns tasks and the waiting for descriptors, over Asio.
#include "transport/asio_loop.h"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "core/check.h"
#include "transport/asio_setup.h"

namespace mempool {
namespace {

/// Thread: confined.
class AsioTask final : public LoopTask {
 public:
  AsioTask(boost::asio::io_context& io, std::function<void()> action)
      : io_(io), state_(std::make_shared<State>(State{std::move(action)})) {}
  ~AsioTask() override { state_->ended = true; }

  void schedule() override {
    if (std::exchange(state_->scheduled, true)) return;
    boost::asio::post(io_, [state = state_] {
      state->scheduled = false;
      if (!state->ended) state->action();
    });
  }

 private:
  // Shared with the posted handler: the action may end the task that it belongs to.
  struct State {
    std::function<void()> action;
    bool scheduled = false;
    bool ended = false;
  };

  boost::asio::io_context& io_;
  const std::shared_ptr<State> state_;
};

/// Thread: confined.
class AsioWatch final : public LoopWatch {
 public:
  AsioWatch(boost::asio::io_context& io, std::function<void()> action)
      : state_(std::make_shared<State>(io, std::move(action))) {}
  ~AsioWatch() override {
    state_->ended = true;
    // It is another's, and so is its closing.
    if (state_->descriptor.is_open()) state_->descriptor.release();
  }

  bool begin(int descriptor) {
    boost::system::error_code error;
    state_->descriptor.assign(descriptor, error);
    if (!error) wait(state_);
    return !error;
  }

 private:
  struct State {
    State(boost::asio::io_context& io, std::function<void()> what)
        : descriptor(io), action(std::move(what)) {}
    boost::asio::posix::stream_descriptor descriptor;
    std::function<void()> action;
    bool ended = false;
  };

  static void wait(const std::shared_ptr<State>& state) {
    state->descriptor.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                                 [state](const boost::system::error_code& error) {
                                   if (error || state->ended) return;
                                   state->action();
                                   if (!state->ended) wait(state);
                                 });
  }

  const std::shared_ptr<State> state_;
};

}  // namespace

std::unique_ptr<LoopTask> AsioLoop::make_task(std::function<void()> action) {
  return std::make_unique<AsioTask>(io_, std::move(action));
}

std::unique_ptr<LoopWatch> AsioLoop::watch(int descriptor, std::function<void()> action) {
  auto watch = std::make_unique<AsioWatch>(io_, std::move(action));
  if (!watch->begin(descriptor)) return nullptr;
  return watch;
}

Result<std::unique_ptr<SetupPort>> AsioLoop::open_setup_port(const SetupTerms& terms,
                                                             SetupPort::ArrivalHandler arrived) {
  auto port = std::make_unique<AsioSetupPort>(io_, terms, std::move(arrived));
  MEMPOOL_RETURN_IF_ERROR(port->listen(terms.host, terms.port));
  return std::unique_ptr<SetupPort>(std::move(port));
}

}  // namespace mempool
