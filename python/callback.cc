// SPDX-License-Identifier: Apache-2.0
// Owns the queue between the threads of pools and the one that calls into Python.
#include "python/callback.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/fork_mark.h"
#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

/// What is to be done under the GIL for threads that never wait for it. Thread: safe.
class Backlog {
 public:
  /// Begin the thread where there is none yet.
  void begin() {
    const std::lock_guard lock(mutex_);
    if (!ended_ && !thread_.joinable()) thread_ = std::thread([this] { run(); });
  }

  void call(std::shared_ptr<nb::object> callable, const Status& status) {
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return;
      calls_.push_back({std::move(callable), status});
    }
    changed_.notify_one();
  }

  /// Delete it: now where this thread may, else soon.
  void drop(nb::object* object) {
    {
      const std::lock_guard lock(mutex_);
      // Once the interpreter has ended it stays here: nobody may even ask for the GIL.
      if (ended_ || PyGILState_Check() == 0) {
        dropped_.push_back(object);
        object = nullptr;
      }
    }
    changed_.notify_one();
    delete object;
  }

  /// Requires: the GIL.
  void end_dropped() {
    for (;;) {
      nb::object* object = nullptr;
      {
        const std::lock_guard lock(mutex_);
        if (dropped_.empty()) return;
        object = dropped_.front();
        dropped_.pop_front();
      }
      delete object;
    }
  }

  void end() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Call {
    std::shared_ptr<nb::object> callable;  // shared with the copies of its on_done
    Status status;
  };

  void run() {
    const nb::gil_scoped_acquire held;
    while (wait()) {
      end_dropped();
      run_next();
    }
  }

  /// False at the end, with nothing left to do.
  bool wait() {
    const nb::gil_scoped_release released;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || !calls_.empty() || !dropped_.empty(); });
    return !calls_.empty() || !dropped_.empty();
  }

  void run_next() {
    Call next;
    {
      const std::lock_guard lock(mutex_);
      if (calls_.empty()) return;
      next = std::move(calls_.front());
      calls_.pop_front();
    }
    try {
      (*next.callable)(next.status.ok() ? nb::none() : exception_of(next.status));
    } catch (nb::python_error& error) {
      error.discard_as_unraisable(*next.callable);
    }
  }

  std::mutex mutex_;  // guards what follows; nobody asks for the GIL under it
  std::condition_variable changed_;
  std::deque<Call> calls_;
  std::deque<nb::object*> dropped_;
  bool ended_ = false;
  std::thread thread_;
};

Backlog* newest = nullptr;  // never deleted: threads of pools may come to it until the process ends

/// That of this process: a fork has neither the thread nor who held the lock.
Backlog& backlog() {
  static const int watching = [] {
    newest = new Backlog;
    return pthread_atfork(nullptr, nullptr, [] { newest = new Backlog; });
  }();
  MEMPOOL_CHECK(watching == 0);
  return *newest;
}

}  // namespace

std::shared_ptr<nb::object> shared_object(nb::object object) {
  backlog().begin();
  return {new nb::object(std::move(object)), [here = ForkMark()](nb::object* last) {
            if (here.here()) backlog().drop(last);
          }};
}

std::function<void(const Status&)> callback_of(nb::object callable) {
  if (PyCallable_Check(callable.ptr()) == 0) throw nb::type_error("on_done is not callable");
  return [shared = shared_object(std::move(callable))](const Status& status) {
    backlog().call(shared, status);
  };
}

void end_objects() {
  backlog().end_dropped();
}

void end_callbacks() {
  backlog().end();
}

}  // namespace mempool::python
