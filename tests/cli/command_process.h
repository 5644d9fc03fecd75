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

/// Run `mempool ARGUMENTS` to its end; `environment` adds to this process's own.
CommandResult run_command(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment = {});

/// `mempool agent ARGUMENTS` in the background, ready once made. Thread: confined.
class BackgroundAgent {
 public:
  explicit BackgroundAgent(const std::vector<std::string>& arguments);
  ~BackgroundAgent();

  /// A word of its ready line: "listen" or "admin".
  std::string ready(const std::string& name) const;
  void send(int signal) const;
  /// Wait for its end, and give the exit code; negative when a signal ended it.
  int wait();
  /// send(), then wait().
  int end(int signal);

 private:
  pid_t process_ = -1;
  std::string line_;
};

/// Write a file into the test's folder, and give its path.
std::string write_file(const std::string& name, const std::string& text);

}  // namespace mempool
