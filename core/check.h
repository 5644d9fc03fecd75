// SPDX-License-Identifier: Apache-2.0
// Owns the macros for errors: pass a Status on, unwrap a Result, abort on a programmer's mistake.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "mempool/status.h"

#define MEMPOOL_CONCAT_INNER(a, b) a##b
#define MEMPOOL_CONCAT(a, b) MEMPOOL_CONCAT_INNER(a, b)

/// Return from the calling function when `expression` gives a failed Status.
#define MEMPOOL_RETURN_IF_ERROR(expression)                                      \
  do {                                                                           \
    if (::mempool::Status mempool_status = (expression); !mempool_status.ok()) { \
      return mempool_status;                                                     \
    }                                                                            \
  } while (false)

#define MEMPOOL_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                      \
  if (!result.ok()) return result.status();                        \
  target = std::move(result).value()

/// Declare or set `target` from a Result, or return its Status.
#define MEMPOOL_ASSIGN_OR_RETURN(target, expression) \
  MEMPOOL_ASSIGN_OR_RETURN_INNER(MEMPOOL_CONCAT(mempool_result_, __LINE__), target, expression)

/// Abort with the place when an invariant of ours is broken. Never for bytes from outside: those
/// give a Status.
#define MEMPOOL_CHECK(condition)                                                         \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
