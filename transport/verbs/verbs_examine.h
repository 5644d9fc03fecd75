// SPDX-License-Identifier: Apache-2.0
// Owns what the verbs module says for `mempool doctor`.
#pragma once

#include <vector>

#include "transport/transport_module.h"

namespace mempool {

/// Tell of each device that would be used, which is tested, and whether the pool may be pinned for
/// all of them.
std::vector<DeviceFinding> examine_verbs(const DeviceQuery& query);

}  // namespace mempool
