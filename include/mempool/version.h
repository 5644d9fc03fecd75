// SPDX-License-Identifier: Apache-2.0
// Owns the version of the library.
#pragma once

#include <string_view>

#include "mempool/export.h"

namespace mempool {

/// Give the version that was built, as "0.1.0".
MEMPOOL_EXPORT std::string_view version();

}  // namespace mempool
