// SPDX-License-Identifier: Apache-2.0
// Owns how messages lie in the stream.
#include "perf/channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "core/check.h"
#include "core/timed_socket.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr size_t kHeaderBytes = sizeof(uint32_t) + sizeof(uint64_t) + sizeof(uint32_t);
constexpr uint32_t kTextBytesMax = 64 << 10;
constexpr char kOther[] = "the other process";

}  // namespace

Status Channel::send(const ChannelMessage& message) {
  const std::string_view text = std::string_view(message.text).substr(0, kTextBytesMax);
  std::vector<std::byte> bytes(kHeaderBytes + text.size());
  LittleEndianWriter(bytes.data())
      .put(message.kind)
      .put(message.number)
      .put(static_cast<uint32_t>(text.size()))
      .put(std::as_bytes(std::span(text)));
  return send_all(descriptor(), bytes, TimeLeft(kSilenceMax)).with_context(kOther);
}

Result<ChannelMessage> Channel::receive() {
  const TimeLeft time_left(kSilenceMax);
  std::array<std::byte, kHeaderBytes> header;
  Status status = receive_all(descriptor(), header, time_left);
  if (!status.ok()) return status.with_context(kOther);
  LittleEndianReader reader(header.data());
  ChannelMessage message;
  message.kind = reader.get<uint32_t>();
  message.number = reader.get<uint64_t>();
  const auto bytes = reader.get<uint32_t>();
  if (bytes > kTextBytesMax) {
    return invalid_argument(
        fmt::format("{} sent a text of {} bytes; the most is {}", kOther, bytes, kTextBytesMax));
  }
  message.text.resize(bytes);
  status = receive_all(descriptor(), std::as_writable_bytes(std::span(message.text)), time_left);
  if (!status.ok()) return status.with_context(kOther);
  return message;
}

Result<ChannelMessage> Channel::ask(const ChannelMessage& order) {
  MEMPOOL_RETURN_IF_ERROR(send(order));
  return receive();
}

Result<std::pair<Channel, Channel>> open_channel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return unavailable(fmt::format("no channel to a second process: {}", std::strerror(errno)));
  }
  return std::pair(Channel(Descriptor(ends[0])), Channel(Descriptor(ends[1])));
}

}  // namespace mempool
