// SPDX-License-Identifier: Apache-2.0
// Owns the reading of a trace file into prompts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool::demo {

/// Read the first `requests` prompts, `scale` times shorter than recorded.
/// Errors: kNotFound for a file that cannot be opened; kInvalidArgument for a scale that does not
/// divide 512, and for a line that is no request, by its number.
Result<std::vector<std::vector<TokenId>>> read_trace(const std::string& path, uint32_t scale,
                                                     size_t requests);

}  // namespace mempool::demo
