// SPDX-License-Identifier: Apache-2.0
// Owns the question how many more descriptors this process may have.
#pragma once

#include <cstdint>

#include "mempool/status.h"

namespace mempool {

/// Raise this process's limit to the most that it may raise it to. For a program to say, not for a
/// library: whoever still calls select() cannot have descriptors beyond 1,023.
void raise_descriptor_limit();

/// Descriptors that this process may open beside those it has. Errors: kInternal where /proc says
/// nothing.
Result<uint64_t> descriptor_room();

/// Check that `count` more may be opened. Errors: kResourceExhausted, naming both numbers.
Status check_descriptor_room(uint64_t count);

}  // namespace mempool
