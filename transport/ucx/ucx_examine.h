// SPDX-License-Identifier: Apache-2.0
// Owns what the ucx module says for `mempool doctor`.
#pragma once

#include <vector>

#include "transport/transport_module.h"

namespace mempool {

/// Tell of UCX, of each device that it would use, and of the limit on locked memory.
std::vector<DeviceFinding> examine_ucx(const DeviceQuery& query);

}  // namespace mempool
