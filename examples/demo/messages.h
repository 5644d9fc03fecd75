// SPDX-License-Identifier: Apache-2.0
// Owns what the demo's parent and its two roles say to each other, and its form as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "mempool/types.h"

/// A value that may be missing is null.
template <typename T>
struct nlohmann::adl_serializer<std::optional<T>> {
  static void to_json(json& document, const std::optional<T>& value) {
    document = value ? json(*value) : json(nullptr);
  }
  static void from_json(const json& document, std::optional<T>& value) {
    value = document.is_null() ? std::nullopt : std::optional<T>(document.get<T>());
  }
};

namespace mempool {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(BlockAddress, incarnation, generation, place)
}

namespace mempool::demo {

/// First word to a role: how to start its agent.
struct Setup {
  std::string name;
  std::string token;
  std::string transport;
  std::string mode;  // by_layer | by_request
  std::string model;
  std::string placement;  // discrete | aggregated
  std::string memory;     // pool | engine
  uint32_t kv_blocks = 0;
  uint64_t corrupt_request = 0;  // fill one byte of this request wrong; 0: of none
  std::map<std::string, std::string> transport_options;
};

/// Its answer.
struct Ready {
  std::string address;
};

/// One request, to the prefill role and then to the decode role. Where engines have the KV it goes
/// to the decode role before, too, which claims places for what it does not hold.
struct Work {
  uint64_t request = 0;  // from 1
  std::string target;    // address of the decode agent
  std::vector<TokenId> tokens;
  bool claim = false;
  std::optional<std::vector<BlockAddress>> places;  // those, for the last blocks of the prompt
};

/// Decode's answer to a claim.
struct Places {
  std::vector<BlockAddress> blocks;
};

/// Prefill's answer: what the transfer did.
struct Sent {
  uint64_t tokens_matched = 0;  // at the prefill agent
  uint64_t bytes_moved = 0;
  uint64_t bytes_saved = 0;
  uint64_t paper_calls = 0;
  uint64_t run_pair_calls = 0;
  uint64_t network_calls = 0;
  std::optional<uint64_t> system_calls;
  double seconds = 0;          // from the call to the acknowledgement
  double latency_seconds = 0;  // likewise; by layer from the end of the last layer
};

/// Decode's answer.
struct Checked {
  uint64_t bytes = 0;  // compared, each one right
};

/// Any answer's alternative.
struct Failure {
  std::string error;
  bool refused = false;  // the transport cannot serve here; nothing was moved
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Setup, name, token, transport, mode, model, placement, memory,
                                   kv_blocks, corrupt_request, transport_options)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Ready, address)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Work, request, target, tokens, claim, places)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Places, blocks)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Sent, tokens_matched, bytes_moved, bytes_saved, paper_calls,
                                   run_pair_calls, network_calls, system_calls, seconds,
                                   latency_seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Checked, bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Failure, error, refused)

}  // namespace mempool::demo
