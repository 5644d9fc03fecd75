// SPDX-License-Identifier: Apache-2.0
// Owns the reading and writing of notes, and the coroutine that dials.
#include "transport/asio_setup.h"

#include <fmt/format.h>
#include <netinet/tcp.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "core/check.h"
#include "core/random.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// A host that is gone without a word is found by these; a peer that only stands still, by the
// agent's own signs of life.
constexpr int kKeepIdleSeconds = 2;
constexpr int kKeepIntervalSeconds = 1;
constexpr int kKeepProbes = 3;
constexpr unsigned kUnacknowledgedMilliseconds = 5000;
// Notes that wait for a peer that does not read; one more ends the link.
constexpr size_t kNotesWaitingMost = 64;
// What a closed link may still take to send its last notes.
constexpr std::chrono::seconds kLastWords{5};

void keep_alive(asio::ip::tcp::socket& socket) {
  error_code ignored;  // without it the agent's signs of life are what finds the loss
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int descriptor = socket.native_handle();
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &kKeepIdleSeconds, sizeof kKeepIdleSeconds);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &kKeepIntervalSeconds,
             sizeof kKeepIntervalSeconds);
  setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &kKeepProbes, sizeof kKeepProbes);
  setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMilliseconds,
             sizeof kUnacknowledgedMilliseconds);
}

}  // namespace

AsioSetupLink::AsioSetupLink(asio::ip::tcp::socket socket)
    : socket_(std::move(socket)), deadline_(socket_.get_executor()) {
  keep_alive(socket_);
}

void AsioSetupLink::start(SetupLinkOwner& owner) {
  owner_ = &owner;
  read_length();
}

void AsioSetupLink::read_length() {
  incoming_.resize(sizeof(uint32_t));
  asio::async_read(socket_, asio::buffer(incoming_),
                   [self = shared_from_this()](const error_code& error, size_t) {
                     if (self->closed()) return;
                     if (error) return self->fail(unavailable(error.message()));
                     self->read_note();
                   });
}

void AsioSetupLink::read_note() {
  const auto length = LittleEndianReader(incoming_.data()).get<uint32_t>();
  if (length > kSetupNoteBytesMax) {
    return fail(invalid_argument(
        fmt::format("a note of {} bytes; at most {} are taken", length, kSetupNoteBytesMax)));
  }
  incoming_.resize(length);
  asio::async_read(socket_, asio::buffer(incoming_),
                   [self = shared_from_this()](const error_code& error, size_t) {
                     if (self->closed()) return;
                     if (error) return self->fail(unavailable(error.message()));
                     const Status taken = self->owner_->on_note(self->incoming_);
                     if (self->closed()) return;
                     if (!taken.ok()) return self->fail(taken);
                     self->read_length();
                   });
}

void AsioSetupLink::send(std::span<const std::byte> note) {
  MEMPOOL_CHECK(note.size() <= kSetupNoteBytesMax);
  std::vector<std::byte>& frame = outgoing_.emplace_back(sizeof(uint32_t) + note.size());
  LittleEndianWriter(frame.data()).put(static_cast<uint32_t>(note.size()));
  std::copy(note.begin(), note.end(), frame.begin() + sizeof(uint32_t));
  if (outgoing_.size() == 1) write();
  // Not from inside this call: the time is over at once.
  if (outgoing_.size() > kNotesWaitingMost) set_deadline(std::chrono::milliseconds(0));
}

void AsioSetupLink::write() {
  asio::async_write(socket_, asio::buffer(outgoing_.front()),
                    [self = shared_from_this()](const error_code& error, size_t) {
                      self->outgoing_.pop_front();
                      if (!self->closed() && error) {
                        return self->fail(unavailable(error.message()));
                      }
                      if (!error && !self->outgoing_.empty()) return self->write();
                      if (self->closed()) {
                        error_code ignored;
                        self->socket_.close(ignored);
                        self->clear_deadline();
                      }
                    });
}

void AsioSetupLink::set_deadline(std::chrono::milliseconds time) {
  deadline_.expires_after(time);
  deadline_.async_wait([self = shared_from_this(), time](const error_code& error) {
    if (error || self->closed()) return;
    self->fail(unavailable(fmt::format("not set up in {} ms", time.count())));
  });
}

void AsioSetupLink::clear_deadline() {
  deadline_.cancel();
}

void AsioSetupLink::close() {
  owner_ = nullptr;
  clear_deadline();
  error_code ignored;
  if (outgoing_.empty()) {
    socket_.close(ignored);
  } else {
    socket_.shutdown(asio::ip::tcp::socket::shutdown_receive, ignored);
    deadline_.expires_after(kLastWords);
    deadline_.async_wait([self = shared_from_this()](const error_code& error) {
      error_code unheard;
      if (!error) self->socket_.close(unheard);
    });
  }
}

void AsioSetupLink::fail(const Status& why) {
  SetupLinkOwner* const owner = std::exchange(owner_, nullptr);
  clear_deadline();
  error_code ignored;
  socket_.close(ignored);
  owner->on_closed(why);
}

AsioSetupPort::AsioSetupPort(asio::io_context& io, const SetupTerms& terms, ArrivalHandler arrived)
    : io_(io),
      listener_(
          io, {terms.transport, terms.incarnation, terms.token, terms.timeout}, {},
          [arrived = std::move(arrived)](ProvenListener::Socket socket, const Dialer& dialer) {
            return arrived(std::make_shared<AsioSetupLink>(std::move(socket)), dialer.incarnation);
          }) {}

void AsioSetupPort::dial(uint64_t peer, std::string host, std::span<const std::byte> address,
                         DialHandler handler) {
  asio::co_spawn(io_,
                 dial_now(alive_, peer, std::move(host),
                          std::vector(address.begin(), address.end()), std::move(handler)),
                 asio::detached);
}

asio::awaitable<void> AsioSetupPort::dial_now(std::weak_ptr<Alive> alive, uint64_t peer,
                                              std::string host, std::vector<std::byte> address,
                                              DialHandler handler) {
  if (alive.expired()) co_return;
  const Result<uint16_t> port = ProvenListener::port_of(address);
  if (!port.ok()) {
    handler(port.status().with_context(fmt::format("address of peer {:x}", peer)));
    co_return;
  }
  ProvenListener::Socket socket(io_);
  const Status status = co_await listener_.dial(socket, host, *port, peer, random_word());
  if (alive.expired()) co_return;
  if (status.ok()) {
    handler(std::shared_ptr<SetupLink>(std::make_shared<AsioSetupLink>(std::move(socket))));
  } else {
    handler(status.with_context(fmt::format("connect to peer {:x} at {}:{}", peer, host, *port)));
  }
}

}  // namespace mempool
