// SPDX-License-Identifier: Apache-2.0
// Owns one row of the demo: two fresh processes, and requests through them one after another.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/demo/progress.h"
#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool::demo {

struct RowSpec {
  std::string model;
  std::string transport;
  std::string mode;                            // by_layer | by_request
  std::string placement;                       // discrete | aggregated
  std::string memory;                          // pool | engine: where the KV lies
  uint64_t pool_bytes = 0;                     // of that, in either process
  uint64_t move_bytes = 0;                     // the row ends once as many were moved
  uint64_t corrupt_request = 0;                // fill one byte of this request wrong; 0: of none
  std::map<std::string, std::string> prefill;  // settings of transports, in that process
  std::map<std::string, std::string> decode;
};

/// What came of a row, up to its last complete request.
struct RowResult {
  std::string model;
  std::string transport;
  std::string mode;
  std::string placement;
  std::string memory;
  uint64_t requests = 0;
  uint64_t skipped = 0;  // prompts larger than the pool
  uint64_t tokens = 0;   // of the prompts
  uint64_t tokens_matched = 0;
  uint64_t bytes_moved = 0;
  uint64_t bytes_saved = 0;
  uint64_t paper_calls = 0;
  uint64_t run_pair_calls = 0;
  uint64_t network_calls = 0;
  std::optional<uint64_t> system_calls = 0;  // nothing where a transport cannot tell
  double seconds = 0;                        // inside the transfers, from call to acknowledgement
  std::vector<double> latencies_ms;  // of each request; by layer from the end of the last layer
  bool verified = false;             // every byte of every request was right in the decode process
  std::string refused;               // why the transport cannot serve here; nothing was moved

  double hit_ratio() const;
  double gb_per_s() const;  // bytes moved over `seconds`
};

/// Say which row it is: its model, transport, mode and placement.
std::string name_of(const RowResult& row);

/// A row that failed still tells how far it came. One that was refused has not failed.
struct RowOutcome {
  RowResult row;
  Status status;
};

/// Run prompts through a prefill and a decode process until they or the bytes are out.
/// Errors: kInvalidArgument for a pool that no prompt fits; kInternal with what a role said.
RowOutcome run_row(const RowSpec& spec, std::span<const std::vector<TokenId>> prompts,
                   Progress& progress);

}  // namespace mempool::demo
