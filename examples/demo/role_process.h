// SPDX-License-Identifier: Apache-2.0
// Owns a child process of the demo: this same program, started anew in one role.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "examples/demo/json_pipe.h"
#include "examples/demo/messages.h"
#include "mempool/status.h"

namespace mempool::demo {

/// Answers one message at a time. Its destructor ends it at once. Thread: confined.
class RoleProcess {
 public:
  /// Errors: kInternal.
  static Result<std::unique_ptr<RoleProcess>> start(const std::string& role);
  ~RoleProcess();

  /// Send a message and wait for the answer. Errors: kInternal with what the role says, and
  /// kUnsupported where it says that the transport refused; kUnavailable when it ended.
  template <typename Answer, typename Question>
  Result<Answer> ask(const Question& question) {
    MEMPOOL_RETURN_IF_ERROR(tell(question));
    return hear<Answer>();
  }
  /// The first half of ask(), so that another role can work meanwhile.
  Status tell(const nlohmann::json& question);
  /// Its second half.
  template <typename Answer>
  Result<Answer> hear() {
    MEMPOOL_ASSIGN_OR_RETURN(const nlohmann::json answer, read());
    try {
      return answer.get<Answer>();
    } catch (const nlohmann::json::exception& error) {
      return corruption(fmt::format("{}: answered {}", role_, error.what()));
    }
  }

  /// Tell it that no more comes and wait for its end. Errors: kInternal when it ended badly.
  Status finish();

 private:
  RoleProcess(std::string role, pid_t process, int in, int out)
      : role_(std::move(role)), process_(process), pipe_(in, out) {}
  Result<nlohmann::json> read();

  const std::string role_;
  pid_t process_;  // 0 once it was waited for
  JsonPipe pipe_;
};

}  // namespace mempool::demo
