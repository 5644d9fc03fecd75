// SPDX-License-Identifier: Apache-2.0
// Owns the HTTP exchange over Beast: one request a connection, bounded and timed.
#include "agent/admin_server.h"

#include <utility>

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "core/auth.h"
#include "core/check.h"
#include "core/close_on_exec.h"
#include "core/listen_socket.h"

namespace mempool {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kExchangeTimeout = std::chrono::seconds(5);
constexpr uint32_t kHeaderBytesMax = 8192;
constexpr int kExchangesMax = 32;

bool same_text(std::string_view left, std::string_view right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace

/// Accepts, and answers. Thread: confined.
class AdminServer::Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(tcp::acceptor acceptor, std::string token, Handler handler)
      : acceptor_(std::move(acceptor)), token_(std::move(token)), handler_(std::move(handler)) {}

  void start() {
    asio::co_spawn(acceptor_.get_executor(), accept(shared_from_this()), asio::detached);
  }
  void close() {
    error_code ignored;
    acceptor_.close(ignored);
  }

 private:
  static asio::awaitable<void> accept(std::shared_ptr<Listener> self) {
    while (self->acceptor_.is_open()) {
      auto [error, socket] =
          co_await self->acceptor_.async_accept(asio::as_tuple(asio::use_awaitable));
      if (error == asio::error::operation_aborted) co_return;
      if (error || self->exchanges_ >= kExchangesMax) {
        asio::steady_timer pause(self->acceptor_.get_executor(), std::chrono::milliseconds(100));
        co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
      }
      if (!error && self->exchanges_ < kExchangesMax) {  // else the socket closes, unserved
        asio::co_spawn(self->acceptor_.get_executor(), exchange(self, std::move(socket)),
                       asio::detached);
      }
    }
  }

  static asio::awaitable<void> exchange(std::shared_ptr<Listener> self, tcp::socket socket) {
    close_on_exec(socket.native_handle());
    beast::tcp_stream stream(std::move(socket));
    stream.expires_after(kExchangeTimeout);
    beast::flat_buffer buffer;
    http::request_parser<http::empty_body> parser;
    parser.header_limit(kHeaderBytesMax);
    ++self->exchanges_;
    auto [error, bytes] =
        co_await http::async_read(stream, buffer, parser, asio::as_tuple(asio::use_awaitable));
    if (!error) {
      http::response<http::string_body> response = self->answer(parser.get());
      co_await http::async_write(stream, response, asio::as_tuple(asio::use_awaitable));
    }
    --self->exchanges_;
    error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
  }

  http::response<http::string_body> answer(const http::request<http::empty_body>& request) const {
    http::response<http::string_body> response;
    response.version(request.version());
    response.keep_alive(false);
    response.set(http::field::content_type, "text/plain; charset=utf-8");
    const auto field = request[http::field::authorization];
    if (!token_.empty() && !same_text({field.data(), field.size()}, "Bearer " + token_)) {
      response.result(http::status::unauthorized);
      response.body() = "give the agent's token: Authorization: Bearer TOKEN\n";
    } else if (request.method() != http::verb::get) {
      response.result(http::status::method_not_allowed);
      response.body() = "only GET\n";
    } else if (auto page = handler_({request.target().data(), request.target().size()})) {
      response.set(http::field::content_type, page->type);
      response.result(page->code);
      response.body() = std::move(page->body);
    } else {
      response.result(http::status::not_found);
      response.body() = "pages: /metrics /healthz /readyz /status\n";
    }
    response.prepare_payload();
    return response;
  }

  tcp::acceptor acceptor_;
  std::string token_;
  Handler handler_;
  int exchanges_ = 0;
};

Result<std::unique_ptr<AdminServer>> AdminServer::open(asio::io_context& io,
                                                       const std::string& address,
                                                       const std::string& token, Handler handler) {
  std::string host;
  uint16_t port = 0;
  MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port));
  MEMPOOL_ASSIGN_OR_RETURN(const ListenSocket bound, listen_on(host, port, token));
  auto server = std::unique_ptr<AdminServer>(new AdminServer());
  server->address_ = join_address(bound.host, bound.port);
  tcp::acceptor acceptor(io, bound.v6 ? tcp::v6() : tcp::v4(), bound.descriptor);
  const bool loopback = check_bind(host, "").ok();
  server->listener_ =
      std::make_shared<Listener>(std::move(acceptor), loopback ? "" : token, std::move(handler));
  server->listener_->start();
  return server;
}

AdminServer::~AdminServer() {
  if (listener_ != nullptr) listener_->close();
}

}  // namespace mempool
