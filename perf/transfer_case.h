// SPDX-License-Identifier: Apache-2.0
// Owns what one row of the transfer measurement is: what moves, over what, and how it lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mempool/content.h"
#include "mempool/status.h"
#include "mempool/types.h"

namespace mempool {

enum class TransferPattern : uint8_t {
  kScattered,      // one piece a block; neighbours in the list are apart in memory on both sides
  kContiguous,     // one piece a block; the list is one run on both sides
  kDiscrete,       // K and V of 32 layers apart, blocks scattered
  kAggregated,     // the same pieces, each block in one run, blocks scattered
  kDiscreteHere,   // discrete at the measured side, aggregated at the other
  kDiscreteThere,  // the other way round
};

/// The names of all, in their order.
std::vector<std::string> transfer_patterns();
Result<TransferPattern> parse_transfer_pattern(std::string_view text);
std::string_view to_string(TransferPattern pattern);

/// Thread: confined.
struct TransferCase {
  std::string transport = "tcp";
  bool read = false;  // the measured side reads; else it writes
  TransferPattern pattern = TransferPattern::kScattered;
  uint64_t piece_bytes = 32 << 10;
  uint64_t pieces = 0;  // 0: as many as make 256 MiB, at most 16,384
  uint32_t repeat = 9;
  uint32_t streams = 1;         // of tcp
  uint32_t copy_threads = 1;    // of shm
  uint64_t send_buffer = 0;     // SO_SNDBUF of both ways; 0 leaves it to the kernel
  uint64_t receive_buffer = 0;  // SO_RCVBUF likewise
  std::string verify = "off";
};

/// Where a case runs: the host on which the serving end listens and by which the moving end reaches
/// it, the secret of both, and what this end's transports need. Thread: confined.
struct TransferSite {
  std::string host = "127.0.0.1";
  std::string token;
  // "verbs.devices" and the like. Those that are fields of a case come from there.
  std::map<std::string, std::string> transport_options;
};

/// The pools and lists that a case needs.
struct TransferShape {
  ContentSpec content;
  Placement placement;          // at the measured side
  Placement serving_placement;  // at the other
  uint32_t pieces_per_block = 1;
  uint32_t blocks = 0;  // that move
  bool scattered = true;

  uint64_t pieces() const { return uint64_t{blocks} * pieces_per_block; }
};

/// Give a case as JSON, and read it. Errors: kInvalidArgument for a text that is no case.
std::string print_case(const TransferCase& measured);
Result<TransferCase> parse_case(const std::string& text);
/// Give the case in words: "write over tcp, scattered, 8192 pieces of 32KiB".
std::string describe(const TransferCase& measured);

/// Errors: kInvalidArgument for a size that makes no piece.
Result<TransferShape> shape_of(const TransferCase& measured);
/// Give what the transport of a case needs at this end, under the names of settings.
std::map<std::string, std::string> options_at(const TransferSite& site,
                                              const TransferCase& measured);
/// Tell whether the yardstick of the case's transport is memcpy; else it is a stream.
inline bool copies_bare(const TransferCase& measured) {
  return measured.transport == "shm";
}

/// One piece of a list of blocks.
struct ListedPiece {
  uint32_t position = 0;  // of its block in the list
  uint32_t piece = 0;     // inside the block
};

/// The order in which the measured side lists its blocks: shuffled when scattered.
std::vector<uint32_t> list_order(const TransferShape& shape);
/// The pieces of a list in the order in which a plan walks them: by layer and part where these lie
/// apart at the other side, else by block.
std::vector<ListedPiece> piece_order(const TransferShape& shape);
/// The tokens of one repeat, equal to those of no other.
std::vector<TokenId> tokens_of(const TransferShape& shape, uint32_t repeat);

/// Fill the piece number `piece` of the block at `position` of the list, or tell whether it holds
/// what that would fill.
void fill_piece(std::span<std::byte> bytes, uint64_t position, uint64_t piece);
bool holds_piece(std::span<const std::byte> bytes, uint64_t position, uint64_t piece);

}  // namespace mempool
