// SPDX-License-Identifier: Apache-2.0
// Owns the control connections' coroutines: handshake, read loop, write queue.
#include "agent/control_plane.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <boost/asio.hpp>

#include "agent/source_machine.h"
#include "core/check.h"
#include "core/close_on_exec.h"
#include "core/listen_socket.h"
#include "core/log.h"

namespace mempool {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kHandshakeTimeout = std::chrono::seconds(5);
constexpr size_t kQueuedBytesMax = 64u << 20;
constexpr size_t kBufferKept = 1u << 20;  // of an idle connection's read buffer
constexpr std::string_view kPurpose = "control";
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

}  // namespace

/// One control connection. Thread: confined.
class ControlPlane::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ControlPlane& plane, tcp::socket socket)
      : plane_(plane),
        handshakes_(plane.handshakes_),
        socket_(std::move(socket)),
        timer_(plane.io_) {
    ++*handshakes_;
  }
  ~Connection() {
    if (!proven_) --*handshakes_;
  }

  void start_accepted() {
    spawn([](std::shared_ptr<Connection> self) -> asio::awaitable<void> {
      const Status ended = co_await self->serve();
      self->finish(ended);
    });
  }

  void start_dialed(std::string name, std::string address) {
    name_ = std::move(name);
    target_ = std::move(address);
    spawn([](std::shared_ptr<Connection> self) -> asio::awaitable<void> {
      const Status ended = co_await self->dial();
      self->finish(ended);
    });
  }

  void send(const Frame& frame) {
    if (hung_up_) return;
    std::vector<std::byte> bytes = encode(frame);
    queued_bytes_ += bytes.size();
    queue_.push_back(std::move(bytes));
    if (queued_bytes_ > kQueuedBytesMax) {
      close(unavailable(
          fmt::format("'{}' does not read; {} bytes wait for it", name_, queued_bytes_)));
    } else if (queue_.size() == 1) {
      write_next();
    }
  }

  bool all_written() const { return queue_.empty(); }

  void hang_up() {
    if (dialed_) return;
    hung_up_ = true;
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
  }
  bool hung_up() const { return hung_up_; }

  void close(const Status& why) {
    if (closed_.ok()) closed_ = why;
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
  }

 private:
  template <typename Body>
  void spawn(Body body) {
    asio::co_spawn(plane_.io_, body(shared_from_this()), asio::detached);
  }

  void write_next() {
    asio::async_write(socket_, asio::buffer(queue_.front()),
                      [self = shared_from_this()](error_code error, size_t) {
                        if (error) return self->close(self->lost(error));
                        self->queued_bytes_ -= self->queue_.front().size();
                        self->queue_.pop_front();
                        if (!self->queue_.empty()) return self->write_next();
                        if (self->session_ != 0) self->plane_.events_.on_written();
                      });
  }

  Status lost(const error_code& error) const {
    return unavailable(fmt::format("control connection to '{}': {}",
                                   name_.empty() ? target_ : name_, error.message()));
  }

  asio::awaitable<Result<Frame>> read_frame(uint32_t limit) {
    std::array<uint8_t, 4> word;
    auto [error, count] = co_await asio::async_read(socket_, asio::buffer(word), kNoThrow);
    if (error) co_return lost(error);
    const uint32_t bytes = word[0] | word[1] << 8 | word[2] << 16 | uint32_t{word[3]} << 24;
    if (bytes > limit) {
      co_return corruption(fmt::format("a frame of {} bytes; the most here is {}", bytes, limit));
    }
    if (bytes < kBufferKept && buffer_.capacity() > kBufferKept) buffer_ = {};  // a large one went
    buffer_.resize(bytes);
    auto [error2, count2] = co_await asio::async_read(socket_, asio::buffer(buffer_), kNoThrow);
    if (error2) co_return lost(error2);
    co_return decode(buffer_);
  }

  /// Read a frame of one kind; a Refusal in its place is its status.
  template <typename T>
  asio::awaitable<Result<T>> expect(uint32_t limit) {
    Result<Frame> frame = co_await read_frame(limit);
    if (!frame.ok()) co_return frame.status();
    if (auto* refusal = std::get_if<Refusal>(&*frame)) {
      co_return refusal->status.ok() ? internal_error("refused without a reason") : refusal->status;
    }
    auto* wanted = std::get_if<T>(&*frame);
    if (wanted == nullptr) {
      co_return corruption(fmt::format("frame {} out of turn in the handshake", frame->index()));
    }
    co_return std::move(*wanted);
  }

  void arm_handshake_timer() {
    timer_.expires_after(kHandshakeTimeout);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && !self->proven_) {
        self->close(unavailable(fmt::format("no handshake with '{}' within {} s", self->target_,
                                            kHandshakeTimeout.count())));
      }
    });
  }

  void prove_done(const std::string& name, uint64_t incarnation) {
    name_ = name;
    incarnation_ = incarnation;
    proven_ = true;
    --*handshakes_;
    timer_.cancel();
  }

  Status refuse(Status status) {
    send(Refusal{status});
    return status;
  }

  asio::awaitable<Status> serve();
  asio::awaitable<Status> dial();
  asio::awaitable<Status> connect();
  asio::awaitable<Status> read_messages();
  void finish(const Status& ended);

  ControlPlane& plane_;
  std::shared_ptr<uint32_t> handshakes_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  std::string name_;    // the peer's, once known
  std::string target_;  // what was dialed, or who connected
  std::string host_;
  uint64_t incarnation_ = 0;
  SessionId session_ = 0;  // 0: none yet
  bool dialed_ = false;
  bool proven_ = false;
  bool hung_up_ = false;
  Status closed_;
  std::vector<std::byte> buffer_;
  std::deque<std::vector<std::byte>> queue_;
  size_t queued_bytes_ = 0;
};

asio::awaitable<Status> ControlPlane::Connection::serve() {
  close_on_exec(socket_.native_handle());
  error_code ignored;
  target_ = fmt::format("{}", socket_.remote_endpoint(ignored).address().to_string(ignored));
  socket_.set_option(tcp::no_delay(true), ignored);
  arm_handshake_timer();
  const Options& own = plane_.options_;
  Result<Hello> hello = co_await expect<Hello>(kHandshakeBytesMax);
  if (!hello.ok()) co_return refuse(hello.status());
  if (hello->version_oldest > kWireVersion || hello->version < kWireVersionOldest) {
    co_return refuse(unsupported(fmt::format(
        "'{}' speaks versions {} to {} and this agent {} to {}; upgrade the older", hello->name,
        hello->version_oldest, hello->version, kWireVersionOldest, kWireVersion)));
  }
  HelloReply reply;
  reply.version = std::min(kWireVersion, hello->version);
  reply.name = own.name;
  reply.incarnation = own.incarnation;
  reply.nonce = make_nonce();
  const Challenge challenge{hello->incarnation, own.incarnation, hello->nonce, reply.nonce};
  reply.proof = make_proof(own.token, kPurpose, challenge, ProofRole::kAcceptor);
  send(reply);
  Result<Introduction> introduction = co_await expect<Introduction>(kHandshakeBytesMax);
  if (!introduction.ok()) co_return introduction.status();
  if (!check_proof(own.token, kPurpose, challenge, ProofRole::kDialer, introduction->proof)) {
    co_return refuse(permission_denied(
        fmt::format("'{}' did not prove the token; both agents need the same one", hello->name)));
  }
  prove_done(hello->name, hello->incarnation);
  session_ = plane_.next_session_++;
  const PeerInfo peer{hello->name, hello->incarnation, introduction->model, {}};
  Result<Welcome> welcome = plane_.events_.on_accepted(session_, peer);
  if (!welcome.ok()) {
    session_ = 0;
    co_return refuse(welcome.status());
  }
  plane_.sessions_[session_] = shared_from_this();
  send(*welcome);
  co_return co_await read_messages();
}

asio::awaitable<Status> ControlPlane::Connection::connect() {
  uint16_t port = 0;
  if (Status split = split_address(target_, host_, port); !split.ok()) co_return split;
  tcp::resolver resolver(plane_.io_);
  auto [resolve_error, endpoints] =
      co_await resolver.async_resolve(host_, std::to_string(port), kNoThrow);
  if (resolve_error) co_return lost(resolve_error);
  error_code error = asio::error::host_not_found;
  for (const auto& entry : endpoints) {
    if (!closed_.ok()) co_return closed_;  // the time was over meanwhile; this would reopen it
    socket_.close(error);
    socket_.open(entry.endpoint().protocol(), error);
    if (error) continue;
    close_on_exec(socket_.native_handle());
    std::tie(error) = co_await socket_.async_connect(entry.endpoint(), kNoThrow);
    host_ = entry.endpoint().address().to_string();
    if (!error) break;
  }
  if (!closed_.ok()) co_return closed_;
  if (error) co_return lost(error);
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  co_return Status();
}

asio::awaitable<Status> ControlPlane::Connection::dial() {
  dialed_ = true;
  arm_handshake_timer();
  if (Status connected = co_await connect(); !connected.ok()) co_return connected;
  const Options& own = plane_.options_;
  Hello hello;
  hello.name = own.name;
  hello.incarnation = own.incarnation;
  hello.nonce = make_nonce();
  send(hello);
  Result<HelloReply> reply = co_await expect<HelloReply>(kHandshakeBytesMax);
  if (!reply.ok()) co_return reply.status();
  if (reply->version < kWireVersionOldest || reply->version > kWireVersion) {
    co_return unsupported(fmt::format("'{}' answers in version {}; this agent speaks {} to {}",
                                      name_, reply->version, kWireVersionOldest, kWireVersion));
  }
  const Challenge challenge{own.incarnation, reply->incarnation, hello.nonce, reply->nonce};
  if (!check_proof(own.token, kPurpose, challenge, ProofRole::kAcceptor, reply->proof)) {
    co_return permission_denied(fmt::format(
        "'{}' at {} did not prove the token; both agents need the same one", name_, target_));
  }
  if (reply->name != name_) {
    co_return invalid_argument(
        fmt::format("{} is '{}', not '{}'; mend [peers]", target_, reply->name, name_));
  }
  Introduction introduction;
  introduction.proof = make_proof(own.token, kPurpose, challenge, ProofRole::kDialer);
  introduction.model = own.model;
  send(introduction);
  Result<Welcome> welcome = co_await expect<Welcome>(kFrameBytesMax);
  if (!welcome.ok()) co_return welcome.status();
  prove_done(reply->name, reply->incarnation);
  session_ = plane_.next_session_++;
  plane_.sessions_[session_] = shared_from_this();
  plane_.events_.on_dialed(name_, session_,
                           PeerInfo{name_, incarnation_, welcome->model, welcome->segments}, host_,
                           *welcome);
  co_return co_await read_messages();
}

asio::awaitable<Status> ControlPlane::Connection::read_messages() {
  while (true) {
    Result<Frame> frame = co_await read_frame(kFrameBytesMax);
    if (!frame.ok()) co_return frame.status();
    if (!closed_.ok()) co_return closed_;
    if (auto* message = std::get_if<Message>(&*frame)) {
      plane_.events_.on_message(session_, std::move(*message));
    } else if (auto* welcome = std::get_if<Welcome>(&*frame); welcome != nullptr && dialed_) {
      plane_.events_.on_welcome(session_, std::move(*welcome));
    } else {
      co_return corruption("a handshake frame on an open session");
    }
  }
}

void ControlPlane::Connection::finish(const Status& ended) {
  const Status why = closed_.ok() ? ended : closed_;
  if (why.code() != StatusCode::kUnavailable) {
    constexpr auto kWords = "control connection with '{}' ({}) ended: {}";
    if (dialed_) {  // as often as we dial
      log().warning(kWords, name_, target_, why.to_string());
    } else {
      plane_.refusals_.warning(status_code_name(why.code()), kWords, name_, target_,
                               why.to_string());
    }
  }
  if (!queue_.empty() && socket_.is_open()) {
    // A refusal is still on its way out; give it a moment before the socket goes.
    timer_.expires_after(std::chrono::milliseconds(200));
    timer_.async_wait([self = shared_from_this(), why](error_code) { self->close(why); });
  } else {
    close(why);
  }
  if (session_ != 0) {
    const SessionId session = std::exchange(session_, 0);
    if (plane_.sessions_.erase(session) > 0) plane_.events_.on_closed(session, why);
  } else if (dialed_) {
    plane_.events_.on_dial_failed(name_, why);
  }
}

/// The listening socket. Thread: confined.
class ControlPlane::Listener {
 public:
  Listener(ControlPlane& plane, tcp::acceptor acceptor)
      : plane_(plane), acceptor_(std::move(acceptor)), pause_(plane.io_) {}

  void accept_next() {
    acceptor_.async_accept([this](error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {  // out of descriptors, for one: wait, or this would spin
        plane_.refusals_.warning("accept", "accepting a control connection: {}", error.message());
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](error_code aborted) {
          if (!aborted) accept_next();
        });
        return;
      }
      const Options& limits = plane_.options_;
      if (*plane_.handshakes_ < limits.max_handshakes &&
          plane_.sessions_.size() < limits.max_connections) {
        std::make_shared<Connection>(plane_, std::move(socket))->start_accepted();
      }
      accept_next();
    });
  }

  void close() {
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
  }

 private:
  ControlPlane& plane_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
};

ControlPlane::ControlPlane(asio::io_context& io, const Options& options, ControlEvents& events)
    : io_(io), options_(options), events_(events), next_session_(kFirstPeerSession) {}

ControlPlane::~ControlPlane() = default;

Status ControlPlane::listen(const std::string& address) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port));
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, port, options_.token));
  tcp::acceptor acceptor(io_, bound.v6 ? tcp::v6() : tcp::v4(), bound.descriptor);
  address_ = join_address(bound.host, bound.port);
  listener_ = std::make_unique<Listener>(*this, std::move(acceptor));
  listener_->accept_next();
  return {};
}

void ControlPlane::dial(const std::string& name, const std::string& address) {
  std::make_shared<Connection>(*this, tcp::socket(io_))->start_dialed(name, address);
}

void ControlPlane::send(SessionId session, const Frame& frame) {
  if (auto it = sessions_.find(session); it != sessions_.end()) it->second->send(frame);
}

bool ControlPlane::all_written() const {
  return std::ranges::all_of(sessions_,
                             [](const auto& each) { return each.second->all_written(); });
}

void ControlPlane::hang_up() {
  for (const auto& [id, connection] : sessions_) connection->hang_up();
}

bool ControlPlane::hanging_up() const {
  return std::ranges::any_of(sessions_, [](const auto& each) { return each.second->hung_up(); });
}

void ControlPlane::close(SessionId session, const Status& why) {
  if (auto it = sessions_.find(session); it != sessions_.end()) it->second->close(why);
}

void ControlPlane::shutdown() {
  if (listener_ != nullptr) listener_->close();
  for (auto& [id, connection] : std::exchange(sessions_, {})) {
    connection->close(cancelled("the agent stops"));
  }
}

}  // namespace mempool
