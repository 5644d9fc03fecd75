// SPDX-License-Identifier: Apache-2.0
// Owns the second process of a measurement.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <functional>

#include "mempool/status.h"
#include "perf/channel.h"

namespace mempool {

/// A fork of this process; its end is the child's end. Thread: confined.
class ChildProcess {
 public:
  /// Run `body` in the child, which ends after it. Requires: no thread but this one runs.
  static Result<ChildProcess> start(const std::function<void()>& body);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  /// Tell whether it has ended, without waiting.
  bool ended();

 private:
  explicit ChildProcess(pid_t process) : process_(process) {}
  pid_t process_;  // -1: none any more
};

/// A child that is told what to do over a channel. Its parts go in this order: the channel first.
struct ToldProcess {
  ChildProcess process;
  Channel channel;
};

/// Run `body` over the other end of the channel. Requires and errors: as ChildProcess::start().
Result<ToldProcess> start_told(const std::function<void(Channel&)>& body);

/// The cores that this process may run on: where a measurement has its caller, and where those who
/// answer it. The same one where there is only one.
struct CorePair {
  int caller = 0;
  int answerer = 0;
};
CorePair choose_cores();
/// Keeps this thread, and those that it starts meanwhile, on one core. Thread: confined.
class OnCore {
 public:
  explicit OnCore(int core);
  OnCore(const OnCore&) = delete;
  OnCore& operator=(const OnCore&) = delete;
  ~OnCore();

 private:
  cpu_set_t before_;
};

/// CPU seconds that this process has used, in user and system mode.
double cpu_seconds();

}  // namespace mempool
