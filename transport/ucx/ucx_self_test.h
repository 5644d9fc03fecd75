// SPDX-License-Identifier: Apache-2.0
// Owns the look at what this machine's UCX really does before anybody relies on it.
#pragma once

#include <ucp/api/ucp.h>

#include "transport/transport.h"

namespace mempool {

/// Move patterns between two workers of this process, by put, get and message, in sizes up to
/// `capabilities.message_bytes` but for no longer than a moment. What changes them is turned off;
/// calls are cut to the largest size that was right and not far slower than smaller ones. Errors:
/// kUnavailable or kUnsupported, where nothing is left to use.
Status test_ucx(ucp_context_h context, Capabilities& capabilities);

/// What to do where it fails.
inline constexpr char kSelfTestMend[] =
    "look at `ucx_info -d` and ucx.config; ucx.self_test = false goes without";

}  // namespace mempool
