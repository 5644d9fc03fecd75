// SPDX-License-Identifier: Apache-2.0
// Owns the test of a device at start: a pattern goes through it and has to come back as it was.
#pragma once

#include "transport/verbs/queue_pair.h"

namespace mempool {

/// Write a pattern through the device into other memory of ours with as many pieces as it has been
/// granted, and read it back likewise. Errors: kCorruption where bytes came back changed;
/// kUnavailable for what the device says, or when it is not done in time.
Status test_device(const VerbsDevice& device, const VerbsOptions& options,
                   const GrantedPieces& granted);

}  // namespace mempool
