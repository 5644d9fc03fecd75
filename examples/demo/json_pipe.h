// SPDX-License-Identifier: Apache-2.0
// Owns the talk between the demo's processes: one JSON value a line, over a pair of pipes.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

#include "mempool/status.h"

namespace mempool::demo {

/// Thread: confined.
class JsonPipe {
 public:
  /// Take over both descriptors.
  JsonPipe(int in, int out);

  /// Errors: kUnavailable when nobody reads any more.
  Status write(const nlohmann::json& message);
  /// Wait for the next message; nothing when the other end was closed.
  /// Errors: kCorruption for a line that is no JSON.
  Result<std::optional<nlohmann::json>> read();
  /// Close the writing end, which tells the reader that no more comes.
  void close_writer() { out_.reset(); }

 private:
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  using File = std::unique_ptr<std::FILE, Closer>;

  File in_;
  File out_;
};

}  // namespace mempool::demo
