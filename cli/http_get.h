// SPDX-License-Identifier: Apache-2.0
// Owns the reading of one page over HTTP.
#pragma once

#include <chrono>
#include <string>

#include "mempool/status.h"

namespace mempool {

struct HttpPage {
  int code = 0;
  std::string body;
};

/// Fetch http://address/path, bearing the token where it is not empty. A proxy is never asked.
/// Errors: kInvalidArgument for an address that is none; kUnavailable, with the reason, when there
/// is no whole answer in time.
Result<HttpPage> http_get(const std::string& address, const std::string& path,
                          const std::string& token, std::chrono::milliseconds timeout);

}  // namespace mempool
