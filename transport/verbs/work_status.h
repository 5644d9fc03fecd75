// SPDX-License-Identifier: Apache-2.0
// Owns what each end of a work request means: whose fault it is and what to do.
#pragma once

#include <infiniband/verbs.h>

#include <string>

#include "mempool/status.h"

namespace mempool {

/// What an error of a work request says about the way it took.
enum class WorkFault : uint8_t {
  kPath,  // the way to the peer, or the peer: another way may do
  kPeer,  // the peer refused what was asked: no other way would do
  kOwn,   // this side asked what its own device refuses: no other way would do
};

WorkFault fault_of(ibv_wc_status status);

/// Say a work request's end in words. Ok for IBV_WC_SUCCESS; kUnavailable for a fault of the way;
/// kPermissionDenied where the peer's memory refused the access; kInternal for the rest.
Status work_status(ibv_wc_status status, uint32_t vendor_error, const std::string& device);

/// Say why a call of libibverbs failed: `what` and the words for `error`, an errno.
Status verbs_error(StatusCode code, const std::string& what, int error);

}  // namespace mempool
