// SPDX-License-Identifier: Apache-2.0
// Owns the child process of the transfer measurement: orders come by the channel, answers go back.
#pragma once

#include <cstdint>
#include <string>

#include "perf/bare_stream.h"
#include "perf/child_process.h"
#include "perf/transfer_case.h"

namespace mempool {

/// The orders, in ChannelMessage::kind; an answer repeats the kind or is kFailed with the reason.
enum class TransferOrder : uint32_t {
  kFailed,
  kReady,     // answered once, unasked: text is the serving end's address, number the bare port
  kCheck,     // number: the repeat
  kClean,     // number: the repeat
  kUsage,     // answered with the CPU nanoseconds used so far
  kLend,      // make the pieces ready for the bare stream
  kBareMove,  // not answered: take part in one bare move
  kTakeBack,
};

/// Serve the case until the channel closes.
void serve_transfers(const TransferCase& measured, Channel& channel);

/// Have the other process do `order`, and give the answer's number and text. Errors: what went
/// wrong there.
Result<ChannelMessage> order(Channel& channel, TransferOrder order, uint64_t number = 0);
/// Wait for the answer to come unasked.
Result<ChannelMessage> await_ready(Channel& channel);

}  // namespace mempool
