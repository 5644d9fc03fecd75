// SPDX-License-Identifier: Apache-2.0
// Owns the two roles of the demo: a prefill instance that computes and sends KV, and a decode
// instance that receives and checks it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "examples/demo/engine_stand_in.h"
#include "examples/demo/messages.h"
#include "mempool/status.h"

namespace mempool::demo {

/// Thread: confined.
class PrefillRole {
 public:
  PrefillRole(std::unique_ptr<EngineStandIn> engine, const Setup& setup);
  Agent& agent() { return engine_->agent(); }
  /// Match, fill what is missing, insert, transfer, unpin. Errors: those of the agent's calls.
  Result<Sent> serve(const Work& work);

 private:
  Result<Sent> transfer(const Work& work, std::span<const BlockAddress> blocks);
  Status flip_one_byte(const BlockAddress& block);

  std::unique_ptr<EngineStandIn> engine_;
  const uint64_t corrupt_request_;
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
