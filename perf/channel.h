// SPDX-License-Identifier: Apache-2.0
// Owns the channel over which one process of a measurement tells the other what to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/descriptor.h"
#include "mempool/status.h"

namespace mempool {

/// Silence after which the other process is given up: longer than any one order takes.
inline constexpr std::chrono::seconds kSilenceMax{90};

/// An order, or its answer.
struct ChannelMessage {
  uint32_t kind = 0;
  uint64_t number = 0;
  std::string text;
};

/// One end of a connected stream socket. On the wire a message is kind u32,
/// number u64, bytes of text u32, text. Thread: confined.
class Channel {
 public:
  explicit Channel(Descriptor socket) : socket_(std::move(socket)) {}

  /// Cuts a text off that is too long. Errors: kUnavailable when the other process has ended.
  Status send(const ChannelMessage& message);
  /// Errors: kUnavailable when the other process has ended or said nothing for kSilenceMax;
  /// kInvalidArgument for what is no message.
  Result<ChannelMessage> receive();
  /// Send, and give the answer.
  Result<ChannelMessage> ask(const ChannelMessage& order);
  /// The socket, to be waited for.
  int descriptor() const { return socket_.number(); }

 private:
  Descriptor socket_;
};

/// Give the two ends of a channel inside this machine. Errors: kUnavailable.
Result<std::pair<Channel, Channel>> open_channel();

}  // namespace mempool
