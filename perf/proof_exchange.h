// SPDX-License-Identifier: Apache-2.0
// Owns the proof of the shared token over a connection of a measurement between two hosts.
#pragma once

#include <string_view>

#include "core/auth.h"
#include "core/timed_socket.h"
#include "mempool/status.h"

namespace mempool {

/// Prove the token to the other end, which proves it too, before anything else is said. The
/// messages are those of a tcp data connection (transport/hello.h); `purpose` tells them apart.
/// Errors: kPermissionDenied for another token; kUnsupported for another version; kInvalidArgument
/// for an end that speaks something else; kUnavailable.
Status exchange_proofs(int descriptor, ProofRole role, std::string_view token,
                       std::string_view purpose, const TimeLeft& time_left);

}  // namespace mempool
