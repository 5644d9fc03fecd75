// SPDX-License-Identifier: Apache-2.0
// Owns the two roles of the demo: a prefill instance that computes and sends KV, and a decode
// instance that receives and checks it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "examples/demo/engine_stand_in.h"
#include "examples/demo/messages.h"
#include "mempool/status.h"

namespace mempool::demo {

/// Thread: confined.
class PrefillRole {
 public:
  PrefillRole(std::unique_ptr<EngineStandIn> engine, const Setup& setup);
  EngineStandIn& engine() { return *engine_; }
  /// Match, fill what is missing, insert, transfer, let go; by layer the transfer begins before the
  /// filling. Errors: those of the agent's calls; kUnsupported when the first transfer cannot
  /// connect.
  Result<Sent> serve(const Work& work);

 private:
  struct Job;  // a request and its blocks

  Result<Job> begin(const Work& work);
  Status fill_layer(const Job& job, uint32_t layer);
  Status fill(const Job& job);
  Status insert(const Job& job);
  Agent& agent() { return engine_->agent(); }
  Result<Transfer> begin_transfer(const Job& job);
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
  EngineStandIn& engine() { return *engine_; }
  /// Claim places and give Places; or receive, check every byte, insert what came into places,
  /// match, let go, and give Checked. Errors: kCorruption when anything differs from what was asked
  /// for; those of the agent's calls.
  Result<nlohmann::json> serve(const Work& work);

 private:
  Agent& agent() { return engine_->agent(); }
  Result<Places> claim(const Work& work);
  /// Give the blocks of the whole prompt, each pinned.
  Result<std::vector<BlockAddress>> receive(const Work& work);
  Result<Checked> check(const Work& work, std::span<const BlockAddress> blocks);

  std::unique_ptr<EngineStandIn> engine_;
  std::vector<BlockAddress> claimed_;  // for the prompt that is awaited: blocks held, then places
};

/// Serve requests over standard input and output until the parent closes them; gives the process's
/// exit code. Requires: role is "prefill" or "decode".
int run_role(const std::string& role);

}  // namespace mempool::demo
