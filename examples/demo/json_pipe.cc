// SPDX-License-Identifier: Apache-2.0
// Owns the lines of a pipe.
#include "examples/demo/json_pipe.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool::demo {

JsonPipe::JsonPipe(int in, int out) : in_(fdopen(in, "r")), out_(fdopen(out, "w")) {
  MEMPOOL_CHECK(in_ != nullptr && out_ != nullptr);
}

Status JsonPipe::write(const nlohmann::json& message) {
  const std::string line =
      message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (std::fwrite(line.data(), 1, line.size(), out_.get()) == line.size() &&
      std::fflush(out_.get()) == 0) {
    return Status();
  }
  return unavailable(fmt::format("pipe: {}", std::strerror(errno)));
}

Result<std::optional<nlohmann::json>> JsonPipe::read() {
  char* text = nullptr;
  size_t capacity = 0;
  const ssize_t length = getline(&text, &capacity, in_.get());
  const std::unique_ptr<char, decltype(&std::free)> owner(text, &std::free);
  if (length < 0) return std::optional<nlohmann::json>();
  nlohmann::json message = nlohmann::json::parse(text, text + length, nullptr, false);
  if (message.is_discarded()) return corruption("pipe: a line that is no JSON");
  return std::optional<nlohmann::json>(std::move(message));
}

}  // namespace mempool::demo
