// SPDX-License-Identifier: Apache-2.0
// Owns the mark that keeps a descriptor out of the programs that a process starts. A connection
// that lives on in one of them does not end with its agent, and no peer hears of that end.
#pragma once

#include <fcntl.h>

namespace mempool {

/// Mark a descriptor that was made without it, as Asio makes them.
inline void close_on_exec(int descriptor) {
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);  // fails only for what is no descriptor
}

}  // namespace mempool
