// SPDX-License-Identifier: Apache-2.0
// Owns the fork, exec and socket pair of a program beside a test.
#include "tests/deaths/told_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace mempool::testing {
namespace {

constexpr int kAnswerTimeoutMs = 60000;  // only a defect takes it

}  // namespace

ToldProcess::ToldProcess(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  const pid_t parent = ::getpid();
  process_ = ::fork();
  if (process_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);  // it died before the line above
    ::dup2(ends[1], STDIN_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    ::execv(arguments.front(), arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  lines_ = ends[0];
}

ToldProcess::~ToldProcess() {
  kill();
  ::close(lines_);
}

void ToldProcess::tell(const std::string& line) {
  const std::string bytes = line + "\n";
  const auto sent = ::send(lines_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  EXPECT_EQ(sent, static_cast<ssize_t>(bytes.size())) << "telling: " << line;
}

std::string ToldProcess::answer() {
  size_t end = 0;
  while ((end = received_.find('\n')) == std::string::npos) {
    pollfd readable{lines_, POLLIN, 0};
    char bytes[4096];
    ssize_t count = 0;
    if (::poll(&readable, 1, kAnswerTimeoutMs) == 1) count = ::read(lines_, bytes, sizeof(bytes));
    if (count <= 0) {
      ADD_FAILURE() << "no answer from process " << process_;
      return "";
    }
    received_.append(bytes, static_cast<size_t>(count));
  }
  const std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

std::string ToldProcess::ask(const std::string& line) {
  tell(line);
  return answer();
}

bool ToldProcess::runs() {
  siginfo_t ended{};  // looked at only: kill() takes it
  return ::waitid(P_PID, static_cast<id_t>(process_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         ended.si_pid == 0;
}

void ToldProcess::kill() {
  if (process_ <= 0) return;
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
  process_ = -1;
}

void ToldProcess::stop() {
  ::kill(process_, SIGSTOP);
  int status = 0;
  EXPECT_EQ(::waitpid(process_, &status, WUNTRACED), process_);
  EXPECT_TRUE(WIFSTOPPED(status));
}

void ToldProcess::go_on() {
  ::kill(process_, SIGCONT);
}

}  // namespace mempool::testing
