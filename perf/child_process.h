// SPDX-License-Identifier: Apache-2.0
// Owns the second process of a measurement, and the channel over which it is told what to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "mempool/status.h"

namespace mempool {

/// One packet of the channel: an order to the child, or its answer.
struct ChannelMessage {
  uint32_t kind = 0;
  uint64_t number = 0;
  std::string text;
};

/// One end of a pair of connected sockets that keep packets apart. Thread: confined.
class Channel {
 public:
  explicit Channel(int descriptor) : descriptor_(descriptor) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel();

  Status send(const ChannelMessage& message);
  /// Errors: kUnavailable when the other process has ended or said nothing for a minute.
  Result<ChannelMessage> receive();
  /// Send, and give the answer.
  Result<ChannelMessage> ask(const ChannelMessage& order);

 private:
  int descriptor_;
};

/// Thread: confined. Its end is the child's end.
class ChildProcess {
 public:
  /// Fork, and run `body` in the child, which ends after it. Requires: no thread but this one runs.
  static Result<ChildProcess> start(const std::function<void(Channel&)>& body);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  Channel& channel() { return *channel_; }

 private:
  ChildProcess(pid_t process, int descriptor);
  pid_t process_;
  std::unique_ptr<Channel> channel_;
};

/// CPU seconds that this process has used, in user and system mode.
double cpu_seconds();

}  // namespace mempool
