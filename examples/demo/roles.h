// SPDX-License-Identifier: Apache-2.0
// Owns the two roles of the demo: a prefill instance that computes and sends KV, and a decode
// instance that receives and checks it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/clock.h"
#include "examples/demo/engine_stand_in.h"
#include "examples/demo/messages.h"
#include "mempool/status.h"

namespace mempool::demo {

/// Thread: confined.
class PrefillRole {
 public:
  PrefillRole(std::unique_ptr<EngineStandIn> engine, const Setup& setup);
  Agent& agent() { return engine_->agent(); }
  /// Match, fill what is missing, insert, transfer, unpin; by layer the transfer begins before the
  /// filling. Errors: those of the agent's calls; kUnsupported when the first transfer cannot
  /// connect.
  Result<Sent> serve(const Work& work);

 private:
  struct Job;  // a request and its blocks

  Result<Job> begin(const Work& work);
  Status fill_layer(const Job& job, uint32_t layer);
  Status fill(const Job& job);
  Status insert(const Job& job);
  Result<Sent> transfer(const Job& job);
  /// Make layer after layer, hand each over, commit; gives when the last was made.
  Result<TimePoint> send_layers(const Job& job, Transfer& transfer);
  uint32_t corrupt_layer();
  Status flip_one_byte(const BlockAddress& block);

  std::unique_ptr<EngineStandIn> engine_;
  const TransferMode mode_;
  const uint64_t corrupt_request_;
  bool connected_ = false;  // a transfer has ended well
};

/// Thread: confined.
class DecodeRole {
 public:
  DecodeRole(std::unique_ptr<EngineStandIn> engine, const Setup&) : engine_(std::move(engine)) {}
  Agent& agent() { return engine_->agent(); }
  /// Receive, match, check every byte, unpin. Errors: kCorruption when anything differs from what
  /// was asked for; those of the agent's calls.
  Result<Checked> serve(const Work& work);

 private:
  std::unique_ptr<EngineStandIn> engine_;
};

/// Serve requests over standard input and output until the parent closes them; gives the process's
/// exit code. Requires: role is "prefill" or "decode".
int run_role(const std::string& role);

}  // namespace mempool::demo
