// SPDX-License-Identifier: Apache-2.0
// Owns the names of the backends and opens them by config; knows none of them itself.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "transport/loop.h"
#include "transport/transport.h"

namespace mempool {

/// What a backend gets when it is opened.
struct TransportContext {
  boost::asio::io_context* io = nullptr;  // its thread runs everything of this backend
  Loop* loop = nullptr;                   // over `io`; all that a module may use of it
  TransportEvents* events = nullptr;
  uint64_t incarnation = 0;  // ours; peers know us by it
  std::string bind_host = "127.0.0.1";
  std::string token;                           // shared secret; empty: loopback only
  std::map<std::string, std::string> options;  // the backend's own keys, already known to exist
};

/// Thread: serialized. Filled once at start, by register_transports().
class TransportRegistry {
 public:
  using Factory =
      std::function<Result<std::unique_ptr<Transport>>(const TransportContext& context)>;

  /// Errors: kAlreadyExists.
  Status add(const std::string& name, Factory factory);
  /// Errors: kNotFound, listing the names there are; whatever the backend says.
  Result<std::unique_ptr<Transport>> open(const std::string& name,
                                          const TransportContext& context) const;
  std::vector<std::string> names() const;

 private:
  std::map<std::string, Factory> factories_;
};

/// Add local, shm and tcp, which are built in, and those that are modules: a module is looked for
/// when it is opened, and says then why it cannot be had.
void register_transports(TransportRegistry& registry);

}  // namespace mempool
