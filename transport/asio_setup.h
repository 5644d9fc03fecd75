// SPDX-License-Identifier: Apache-2.0
// Owns set-up links over TCP, and where they come in and go out.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "transport/loop.h"
#include "transport/proven_listener.h"

namespace mempool {

/// Carries notes of at most kSetupNoteBytesMax, in order: `length u32 | bytes`. Shared, because a
/// handler that waits for the socket may run after the owner is gone; it then finds the link
/// closed. Thread: confined to the io_context's thread.
class AsioSetupLink final : public SetupLink, public std::enable_shared_from_this<AsioSetupLink> {
 public:
  explicit AsioSetupLink(boost::asio::ip::tcp::socket socket);

  void start(SetupLinkOwner& owner) override;
  void send(std::span<const std::byte> note) override;
  void set_deadline(std::chrono::milliseconds time) override;
  void clear_deadline() override;
  void close() override;

 private:
  bool closed() const { return owner_ == nullptr; }
  void read_length();
  void read_note();
  void write();
  void fail(const Status& why);

  boost::asio::ip::tcp::socket socket_;
  SetupLinkOwner* owner_ = nullptr;  // null before start(), and once closed
  boost::asio::steady_timer deadline_;
  std::vector<std::byte> incoming_;
  std::deque<std::vector<std::byte>> outgoing_;  // the first is being written
};

/// Thread: confined to the io_context's thread.
class AsioSetupPort final : public SetupPort {
 public:
  AsioSetupPort(boost::asio::io_context& io, const SetupTerms& terms, ArrivalHandler arrived);

  /// As ProvenListener::listen().
  Status listen(const std::string& host, uint16_t port) { return listener_.listen(host, port); }
  Result<std::vector<std::byte>> address() const override { return listener_.address(); }
  void dial(uint64_t peer, std::string host, std::span<const std::byte> address,
            DialHandler handler) override;

 private:
  struct Alive {};

  boost::asio::awaitable<void> dial_now(std::weak_ptr<Alive> alive, uint64_t peer, std::string host,
                                        std::vector<std::byte> address, DialHandler handler);

  boost::asio::io_context& io_;
  ProvenListener listener_;
  // Shared with nobody: coroutines hold it weakly and look whether this is still here.
  std::shared_ptr<Alive> alive_ = std::make_shared<Alive>();
};

}  // namespace mempool
