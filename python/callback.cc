// SPDX-License-Identifier: Apache-2.0
// Owns the gate between pools' threads and the interpreter.
#include "python/callback.h"

#include <fmt/format.h>
#include <pthread.h>

#include <memory>
#include <utility>

#include "core/check.h"
#include "core/gate.h"
#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

thread_local bool running_callback = false;

Gate interpreter_gate;

/// Closed before the interpreter ends: a thread that asks for the GIL after that never returns.
Gate& interpreter() {
  // Who is inside at a fork is not there in the child, and would never leave.
  static const int watching =
      pthread_atfork(nullptr, nullptr, [] { std::construct_at(&interpreter_gate); });
  MEMPOOL_CHECK(watching == 0);
  return interpreter_gate;
}

struct Forget {
  void operator()(nb::object* callable) const {
    const Visit visit(interpreter());
    if (!visit) return;  // it goes with the process
    const nb::gil_scoped_acquire held;
    delete callable;
  }
};

void call(const nb::object& callable, const Status& status) {
  const Visit visit(interpreter());
  if (!visit) return;
  const nb::gil_scoped_acquire held;
  const bool outer = std::exchange(running_callback, true);
  try {
    callable(status.ok() ? nb::none() : exception_of(status));
  } catch (nb::python_error& error) {
    error.discard_as_unraisable(callable);
  }
  running_callback = outer;
}

}  // namespace

std::function<void(const Status&)> callback_of(nb::object callable) {
  if (PyCallable_Check(callable.ptr()) == 0) throw nb::type_error("on_done is not callable");
  // Shared by the copies of the function.
  std::shared_ptr<nb::object> held(new nb::object(std::move(callable)), Forget());
  return [held = std::move(held)](const Status& status) { call(*held, status); };
}

bool in_callback() {
  return running_callback;
}

void refuse_in_callback(const char* name) {
  if (!running_callback) return;
  raise(invalid_argument(fmt::format(
      "{}() waits for the thread that runs on_done, and is called there; call it elsewhere",
      name)));
}

void end_callbacks() {
  interpreter().close_and_wait();
}

}  // namespace mempool::python
