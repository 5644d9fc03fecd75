// SPDX-License-Identifier: Apache-2.0
// Owns the fork, exec and pipes of a command under test.
#include "tests/cli/command_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace mempool {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

std::string scratch_path(const std::string& name) {
  return ::testing::TempDir() + "mempool_cli_" + std::to_string(::getpid()) + "_" + name;
}

/// Fork and run the command with its output and errors in these descriptors.
pid_t start(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
            const std::vector<std::string>& under, int output, int errors) {
  const pid_t process = ::fork();
  if (process != 0) return process;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves nothing running
  ::dup2(output, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  for (const std::string& variable : environment) ::putenv(const_cast<char*>(variable.c_str()));
  std::vector<char*> words;
  for (const std::string& word : under) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(const_cast<char*>(MEMPOOL_COMMAND));
  for (const std::string& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words.front(), words.data());
  ::_exit(127);
}

std::vector<std::string> after(const std::string& first, std::vector<std::string> rest) {
  rest.insert(rest.begin(), first);
  return rest;
}

int wait_for(pid_t process) {
  int status = 0;
  ::waitpid(process, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int open_scratch(const std::string& path) {
  return ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& environment,
                          const std::vector<std::string>& under) {
  const std::string output_path = scratch_path("output");
  const std::string errors_path = scratch_path("errors");
  const int output = open_scratch(output_path);
  const int errors = open_scratch(errors_path);
  CommandResult result;
  result.exit_code = wait_for(start(arguments, environment, under, output, errors));
  ::close(output);
  ::close(errors);
  result.output = read_file(output_path);
  result.errors = read_file(errors_path);
  std::remove(output_path.c_str());
  std::remove(errors_path.c_str());
  return result;
}

BackgroundCommand::BackgroundCommand(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& under) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  process_ = start(arguments, {}, under, ends[1], STDERR_FILENO);
  ::close(ends[1]);
  output_ = ends[0];
  line_ = next_line();
}

BackgroundCommand::~BackgroundCommand() {
  if (process_ > 0) end(SIGKILL);
  if (output_ >= 0) ::close(output_);
}

std::string BackgroundCommand::ready(const std::string& name) const {
  std::istringstream words(line_);
  for (std::string word; words >> word;) {
    if (word.starts_with(name + "=")) return word.substr(name.size() + 1);
  }
  ADD_FAILURE() << "the ready line has no " << name << ": '" << line_ << "'";
  return "";
}

std::string BackgroundCommand::next_line() {
  std::string line;
  for (char letter = 0; ::read(output_, &letter, 1) == 1 && letter != '\n';) line += letter;
  return line;
}

void BackgroundCommand::send(int signal) const {
  ::kill(process_, signal);
}

int BackgroundCommand::wait() {
  const int code = wait_for(process_);
  process_ = -1;
  return code;
}

int BackgroundCommand::end(int signal) {
  send(signal);
  return wait();
}

BackgroundAgent::BackgroundAgent(const std::vector<std::string>& arguments)
    : BackgroundCommand(after("agent", arguments)) {}

std::string write_file(const std::string& name, const std::string& text) {
  const std::string path = scratch_path(name);
  std::ofstream(path) << text;
  return path;
}

}  // namespace mempool
