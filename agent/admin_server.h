// SPDX-License-Identifier: Apache-2.0
// Owns the operators' HTTP door: GET of a few read-only pages (/metrics, /healthz,
// /readyz, /status).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "mempool/status.h"

namespace boost::asio {
class io_context;
}

namespace mempool {

/// Thread: confined to the io_context's thread, but for open().
class AdminServer {
 public:
  struct Page {
    std::string type;  // of the body, as HTTP names it
    std::string body;
    unsigned code = 200;
  };
  /// Gives the page of a path, or nothing for 404.
  using Handler = std::function<std::optional<Page>(std::string_view path)>;

  /// Bind `address` (host:port) and serve. Beyond loopback each request must bear the token.
  /// Errors: kPermissionDenied for a host beyond loopback without a token; kUnavailable.
  static Result<std::unique_ptr<AdminServer>> open(boost::asio::io_context& io,
                                                   const std::string& address,
                                                   const std::string& token, Handler handler);
  ~AdminServer();
  /// The host:port that was bound.
  const std::string& address() const { return address_; }

 private:
  class Listener;
  AdminServer() = default;
  std::string address_;
  std::shared_ptr<Listener> listener_;  // shared with its pending accept
};

}  // namespace mempool
