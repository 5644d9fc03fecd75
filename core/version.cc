// SPDX-License-Identifier: Apache-2.0
// Owns the version, which the build takes from the top CMakeLists.txt.
#include "mempool/version.h"

namespace mempool {

std::string_view version() {
  return MEMPOOL_VERSION;
}

}  // namespace mempool
