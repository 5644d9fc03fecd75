// SPDX-License-Identifier: Apache-2.0
// Owns the start of a role by posix_spawn, with a pipe each way at its standard input and output.
#include "examples/demo/role_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

extern char** environ;

namespace mempool::demo {
namespace {

struct Pipe {
  int read = -1;
  int write = -1;
};

Result<Pipe> open_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return internal_error(fmt::format("pipe: {}", std::strerror(errno)));
  }
  return Pipe{ends[0], ends[1]};
}

int spawn_self(const std::string& role, int in, int out, pid_t& process) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  std::string program = "mempool_demo";
  std::string flag = "--role";
  std::string value = role;
  char* const arguments[] = {program.data(), flag.data(), value.data(), nullptr};
  const int error = posix_spawn(&process, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

Result<std::unique_ptr<RoleProcess>> RoleProcess::start(const std::string& role) {
  MEMPOOL_ASSIGN_OR_RETURN(const Pipe to_role, open_pipe());
  MEMPOOL_ASSIGN_OR_RETURN(const Pipe from_role, open_pipe());
  pid_t process = 0;
  const int error = spawn_self(role, to_role.read, from_role.write, process);
  close(to_role.read);
  close(from_role.write);
  if (error != 0) {
    close(to_role.write);
    close(from_role.read);
    return internal_error(fmt::format("{}: posix_spawn: {}", role, std::strerror(error)));
  }
  return std::unique_ptr<RoleProcess>(
      new RoleProcess(role, process, from_role.read, to_role.write));
}

RoleProcess::~RoleProcess() {
  if (process_ == 0) return;
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
}

Status RoleProcess::tell(const nlohmann::json& question) {
  return pipe_.write(question).with_context(role_);
}

Result<nlohmann::json> RoleProcess::read() {
  MEMPOOL_ASSIGN_OR_RETURN(std::optional<nlohmann::json> answer, pipe_.read());
  if (!answer) return unavailable(fmt::format("{}: the process ended before it answered", role_));
  if (answer->is_object() && answer->contains("error")) {
    const std::string words = fmt::format("{}: {}", role_, answer->value("error", ""));
    return answer->value("refused", false) ? unsupported(words) : internal_error(words);
  }
  return *std::move(answer);
}

Status RoleProcess::finish() {
  pipe_.close_writer();
  MEMPOOL_ASSIGN_OR_RETURN(const std::optional<nlohmann::json> last, pipe_.read());
  int result = 0;
  waitpid(std::exchange(process_, 0), &result, 0);
  if (last) return internal_error(fmt::format("{}: {}", role_, last->dump()));
  if (result != 0) {
    return internal_error(fmt::format("{}: ended with wait status {}", role_, result));
  }
  return Status();
}

}  // namespace mempool::demo
