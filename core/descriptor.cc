// SPDX-License-Identifier: Apache-2.0
// Owns the system calls of descriptors.
#include "core/descriptor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace mempool {

Descriptor::~Descriptor() {
  if (number_ >= 0) close(number_);
}

Result<Descriptor> duplicate(int number) {
  Descriptor copy(fcntl(number, F_DUPFD_CLOEXEC, 0));
  if (copy.valid()) return copy;
  return resource_exhausted(fmt::format("duplicate a descriptor: {}", std::strerror(errno)));
}

Result<Descriptor> make_event() {
  Descriptor event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (event.valid()) return event;
  return resource_exhausted(fmt::format("make an event descriptor: {}", std::strerror(errno)));
}

void raise_event(const Descriptor& event) {
  (void)eventfd_write(event.number(), 1);  // fails only where it is raised 2^64 - 2 times over
}

void lower_event(const Descriptor& event) {
  eventfd_t raised = 0;
  (void)eventfd_read(event.number(), &raised);  // fails where it was not raised
}

Result<Descriptor> make_timer() {
  Descriptor timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (timer.valid()) return timer;
  return resource_exhausted(fmt::format("make a timer descriptor: {}", std::strerror(errno)));
}

void start_timer(const Descriptor& timer, std::chrono::milliseconds wait) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
  const std::chrono::nanoseconds rest = wait - seconds;
  const itimerspec once{{0, 0}, {seconds.count(), rest.count()}};
  (void)timerfd_settime(timer.number(), 0, &once, nullptr);  // fails only for what is no timer
}

}  // namespace mempool
