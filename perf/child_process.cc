// SPDX-License-Identifier: Apache-2.0
// Owns the fork.
#include "perf/child_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {

Result<ChildProcess> ChildProcess::start(const std::function<void()>& body) {
  std::fflush(nullptr);  // what is still buffered would be written twice
  const pid_t process = ::fork();
  if (process < 0) return unavailable(fmt::format("no second process: {}", std::strerror(errno)));
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    std::fflush(nullptr);
    ::_exit(0);
  }
  return ChildProcess(process);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : process_(std::exchange(other.process_, -1)) {}

ChildProcess::~ChildProcess() {
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);  // it holds nothing that its end could lose, and may wait for us
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool ChildProcess::ended() {
  if (process_ >= 0 && ::waitpid(process_, nullptr, WNOHANG) == process_) process_ = -1;
  return process_ < 0;
}

Result<ToldProcess> start_told(const std::function<void(Channel&)>& body) {
  MEMPOOL_ASSIGN_OR_RETURN(auto ends, open_channel());
  MEMPOOL_ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::start([&] {
                             { const Channel unused = std::move(ends.first); }
                             body(ends.second);
                           }));
  return ToldProcess{std::move(process), std::move(ends.first)};
}

CorePair choose_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  CorePair cores;
  for (int core = CPU_SETSIZE - 1; core >= 0; --core) {
    if (CPU_ISSET(core, &allowed)) cores.caller = core;
  }
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.answerer = core;
  }
  return cores;
}

OnCore::OnCore(int core) {
  CPU_ZERO(&before_);
  ::sched_getaffinity(0, sizeof(before_), &before_);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  ::sched_setaffinity(0, sizeof(one), &one);  // where the kernel refuses, it runs as before
}

OnCore::~OnCore() {
  ::sched_setaffinity(0, sizeof(before_), &before_);
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace mempool
