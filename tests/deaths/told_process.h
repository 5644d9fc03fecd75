// SPDX-License-Identifier: Apache-2.0
// Owns a program that runs beside a test: lines in, lines out, signals.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace mempool::testing {

/// Killed when it goes, and with the thread that made it. Thread: confined.
class ToldProcess {
 public:
  /// Run a program: its path, then its arguments.
  explicit ToldProcess(std::vector<std::string> words);
  ToldProcess(const ToldProcess&) = delete;
  ToldProcess& operator=(const ToldProcess&) = delete;
  ~ToldProcess();

  /// Give it a line.
  void tell(const std::string& line);
  /// Wait for its next line; empty, and a failure of the test, when none comes.
  std::string answer();
  std::string ask(const std::string& line);

  /// Whether it has not ended by itself.
  bool runs();
  /// SIGKILL; it is gone when this returns.
  void kill();
  /// SIGSTOP; it stands still when this returns.
  void stop();
  void go_on();

 private:
  pid_t process_ = -1;
  int lines_ = -1;        // our end of a socket pair
  std::string received_;  // behind the last line that was taken
};

}  // namespace mempool::testing
