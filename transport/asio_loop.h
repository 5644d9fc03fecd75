// SPDX-License-Identifier: Apache-2.0
// Owns the loop that backends see, over Asio's.
#pragma once

#include <boost/asio/io_context.hpp>

#include "transport/loop.h"

namespace mempool {

/// Thread: confined to the io_context's thread.
class AsioLoop final : public Loop {
 public:
  explicit AsioLoop(boost::asio::io_context& io) : io_(io) {}

  std::unique_ptr<LoopTask> make_task(std::function<void()> action) override;
  std::unique_ptr<LoopWatch> watch(int descriptor, std::function<void()> action) override;
  Result<std::unique_ptr<SetupPort>> open_setup_port(const SetupTerms& terms,
                                                     SetupPort::ArrivalHandler arrived) override;

 private:
  boost::asio::io_context& io_;
};

}  // namespace mempool
