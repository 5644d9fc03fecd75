// SPDX-License-Identifier: Apache-2.0
// Owns the running of the built command as a process.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace mempool {

struct CommandResult {
  int exit_code = -1;
  std::string output;
  std::string errors;
};

/// Run `mempool ARGUMENTS` to its end; `environment` adds to this process's own. `under` is a
/// command that runs it, as "nsenter" with its options does.
CommandResult run_command(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment = {},
                          const std::vector<std::string>& under = {});

/// `mempool ARGUMENTS` in the background, ready once made: it has printed a line.
/// Thread: confined.
class BackgroundCommand {
 public:
  explicit BackgroundCommand(const std::vector<std::string>& arguments,
                             const std::vector<std::string>& under = {});
  ~BackgroundCommand();

  /// A word of its ready line: "listen" or "admin".
  std::string ready(const std::string& name) const;
  /// Its next line.
  std::string next_line();
  void send(int signal) const;
  /// Wait for its end, and give the exit code; negative when a signal ended it.
  int wait();
  /// send(), then wait().
  int end(int signal);

 private:
  pid_t process_ = -1;
  int output_ = -1;
  std::string line_;
};

/// `mempool agent ARGUMENTS` in the background. Thread: confined.
class BackgroundAgent : public BackgroundCommand {
 public:
  explicit BackgroundAgent(const std::vector<std::string>& arguments);
};

/// Write a file into the test's folder, and give its path.
std::string write_file(const std::string& name, const std::string& text);

}  // namespace mempool
