// SPDX-License-Identifier: Apache-2.0
// Owns the making and checking of KV bytes, and the books.
#include "tests/simulation/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/random.h"
#include "tests/simulation/protocol_times.h"

namespace mempool::simulation {
namespace {

constexpr std::byte kPoison{0xDB};

uint64_t mix(uint64_t word, uint64_t more) {
  return Random(word ^ (more * 0x9fb21c651e98df25)).next();
}

/// Call `visit(address, bytes, word)` for each vector that these layers of a shard's part of the
/// block must have, `word` being what it must hold.
template <typename Visit>
void for_each_vector(const BlockView& view, const Content& content, std::span<const TokenId> tokens,
                     size_t position, LayerRange layers, Visit visit) {
  const BlockLayout& layout = *view.layout;
  const size_t first = position * layout.tokens;
  uint64_t prefix = mix(content.id.words[0], content.id.words[1]);
  for (size_t i = 0; i < first; ++i) prefix = mix(prefix, tokens[i]);
  const size_t end = std::min(tokens.size(), first + layout.tokens);
  for (size_t i = first; i < end; ++i) {
    prefix = mix(prefix, tokens[i]);
    for (uint32_t layer = layers.first; layer < layers.first + layers.count; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        for (uint32_t head = 0; head < layout.heads; ++head) {
          std::byte* at = view.piece(layer, part) +
                          layout.vector_offset(static_cast<uint32_t>(i - first), head);
          const uint32_t model_head = layout.first_head + head;
          visit(at, layout.vector_bytes, mix(prefix, layer << 16 | part << 8 | model_head));
        }
      }
    }
  }
}

/// Call `visit(piece)` for each piece of the block in every shard.
template <typename Visit>
void for_each_piece(const BlockPool& pool, uint32_t block, Visit visit) {
  for (const BlockView& view : pool.views(block)) {
    for (uint32_t layer = 0; layer < view.layout->layers; ++layer) {
      for (uint32_t part = 0; part < view.layout->parts; ++part) {
        visit(std::span(view.piece(layer, part), view.layout->piece_bytes));
      }
    }
  }
}

}  // namespace

void write_kv(const BlockPool& pool, uint32_t block, const Content& content,
              std::span<const TokenId> tokens, size_t position, std::optional<LayerRange> layers) {
  for (const BlockView& view : pool.views(block)) {
    for_each_vector(view, content, tokens, position,
                    layers.value_or(LayerRange{0, view.layout->layers}),
                    [](std::byte* at, uint64_t bytes, uint64_t word) {
                      std::memcpy(at, &word, std::min(bytes, sizeof(word)));
                    });
  }
}

bool has_kv(const BlockPool& pool, uint32_t block, const Content& content,
            std::span<const TokenId> tokens, size_t position) {
  bool right = true;
  for (const BlockView& view : pool.views(block)) {
    for_each_vector(view, content, tokens, position, LayerRange{0, view.layout->layers},
                    [&](const std::byte* at, uint64_t bytes, uint64_t word) {
                      right = right && std::memcmp(at, &word, std::min(bytes, sizeof(word))) == 0;
                    });
  }
  return right;
}

void poison(const BlockPool& pool, uint32_t block) {
  for_each_piece(pool, block,
                 [](std::span<std::byte> piece) { std::ranges::fill(piece, kPoison); });
}

bool is_poisoned(const BlockPool& pool, uint32_t block) {
  bool poisoned = true;
  for_each_piece(pool, block, [&](std::span<const std::byte> piece) {
    poisoned =
        poisoned && std::ranges::all_of(piece, [](std::byte byte) { return byte == kPoison; });
  });
  return poisoned;
}

void IndexModel::apply(const ChangeRecord& record) {
  if (record.sequence != ++sequence_) complaint_ = "a change record's sequence has a gap";
  if (record.parent.size() % tokens_per_block_ != 0 ||
      record.tokens.size() % tokens_per_block_ != 0) {
    complaint_ = "a change record is not in whole blocks";
    return;
  }
  std::set<std::vector<TokenId>>& known = prefixes_[record.root];
  std::vector<TokenId> prefix(record.parent.begin(), record.parent.end());
  for (size_t i = 0; i < record.tokens.size(); i += tokens_per_block_) {
    const auto block = record.tokens.subspan(i, tokens_per_block_);
    prefix.insert(prefix.end(), block.begin(), block.end());
    if (record.kind == ChangeRecord::Kind::kStored) {
      if (!known.insert(prefix).second) complaint_ = "a prefix was stored that was there";
      ++blocks_;
    } else {
      if (known.erase(prefix) == 0) complaint_ = "a prefix was removed that was not there";
      --blocks_;
    }
  }
}

uint64_t Ledger::open(Entry entry) {
  const uint64_t id = entries_.size() + 1;
  entries_.emplace(id, std::move(entry));
  return id;
}

void Ledger::end(uint64_t id, const Status& status, const TransferReport& report,
                 TimePoint on_time_from) {
  Entry& entry = entries_.at(id);
  const std::string call = fmt::format("call {} from {} to {}", id, entry.source, entry.target);
  if (std::exchange(entry.ended, true)) run_.fail(call + " ended twice");
  entry.status = status;
  if (run_.now() > std::max(entry.deadline, on_time_from) + kStopGrace) {
    run_.fail(call + " ended after its deadline: " + status.to_string());
  }
  switch (status.code()) {
    case StatusCode::kOk:
      ++ended_ok_;
      if (entry.arrivals != 1) run_.fail(call + " ended well and did not arrive");
      if (report.serving.empty()) run_.fail(call + " ended well and nothing serves it");
      if (!entry.places.empty() && report.serving != entry.places) {
        run_.fail(call + " ended well in other places");
      }
      break;
    case StatusCode::kUnavailable:
    case StatusCode::kDeadlineExceeded:
    case StatusCode::kCancelled:
    case StatusCode::kResourceExhausted:
      break;
    case StatusCode::kStale:
      if (!entry.places.empty()) break;  // the peer has taken them back
      run_.fail(call + " ended with a stale address of its own: " + status.to_string());
      break;
    case StatusCode::kCorruption:
      if (run_.options().corrupt > 0) break;
      [[fallthrough]];
    default:
      run_.fail(call + " ended as nothing here can make it end: " + status.to_string());
  }
}

void Ledger::arrive(const Arrival& arrival) {
  auto it = entries_.find(arrival.request_id);
  if (it == entries_.end()) {
    run_.fail(fmt::format("an arrival of request {}, which nobody sent", arrival.request_id));
    return;
  }
  Entry& entry = it->second;
  if (++entry.arrivals != 1) {
    run_.fail(fmt::format("call {} from {} arrived twice", it->first, entry.source));
  }
  const bool same = entry.places.empty()
                        ? arrival.content == entry.content && arrival.tokens == entry.tokens
                        : arrival.tokens.empty() && arrival.blocks == entry.places;
  if (arrival.source != entry.source || !same) {
    run_.fail(fmt::format("call {} from {} arrived as another prompt", it->first, entry.source));
  }
}

}  // namespace mempool::simulation
