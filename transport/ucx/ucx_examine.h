// SPDX-License-Identifier: Apache-2.0
// Owns what the ucx module says for `mempool doctor`.
#pragma once

#include <vector>

#include "transport/transport_module.h"

namespace mempool {

/// Tell of UCX and of each device that it would use, which is tested by itself.
std::vector<DeviceFinding> examine_ucx(const DeviceQuery& query);

}  // namespace mempool
