// SPDX-License-Identifier: Apache-2.0
// Owns the serving process of the transfer measurement: orders come by the channel, answers go
// back.
#pragma once

#include <cstdint>
#include <string>

#include "perf/channel.h"
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

  // What a process of another host is asked for first; number is the version.
  kBegin,     // text: a case to serve; then as above
  kMeasure,   // text: an address, a new line, a case to measure towards it
  kProgress,  // answers kMeasure, once for each repeat
  kRow,       // answers kMeasure; text: the row as JSON
};

/// Serve the case on the site's host until the channel closes. The caller tells of a failure.
Status serve_transfers(const TransferCase& measured, const TransferSite& site, Channel& channel);
/// Tell the other process why this one gives up; when it is gone too, nobody is left to tell.
void send_failure(Channel& channel, const Status& status);

/// Have the other process do `order`, and give the answer's number and text. Errors: what went
/// wrong there.
Result<ChannelMessage> order(Channel& channel, TransferOrder order, uint64_t number = 0);
/// Wait for an answer that comes unasked. Errors: likewise.
Result<ChannelMessage> await_answer(Channel& channel);
/// Have a process of this machine serve the case until its end. Requires: no other thread runs.
Result<ToldProcess> start_serving(const TransferCase& measured, const TransferSite& site);

}  // namespace mempool
