// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic from a case to contents, lists and bytes.
#include "perf/transfer_case.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/config_value.h"
#include "core/random.h"

namespace mempool {
namespace {

constexpr uint64_t kDefaultBytes = 256 << 20;
constexpr uint64_t kDefaultPiecesMax = 16384;
constexpr uint64_t kPiecesMax = 1 << 22;
constexpr uint64_t kDimensionMax = 1 << 16;
constexpr uint32_t kTokensPerBlock = 16;
constexpr uint32_t kTokensOfLargePiece = 64;  // as a vector is bounded
constexpr uint64_t kLargePiece = 4 << 20;
constexpr uint32_t kLayers = 32;
constexpr uint32_t kHeads = 8;
constexpr uint32_t kVocabulary = 32000;

constexpr std::pair<std::string_view, TransferPattern> kPatterns[] = {
    {"scattered", TransferPattern::kScattered},
    {"contiguous", TransferPattern::kContiguous},
    {"discrete", TransferPattern::kDiscrete},
    {"aggregated", TransferPattern::kAggregated},
    {"discrete_here", TransferPattern::kDiscreteHere},
    {"discrete_there", TransferPattern::kDiscreteThere},
};

/// MLA's single part: a block of one layer is one piece.
ContentSpec single_piece_content() {
  ContentSpec spec;
  spec.model = "perf-single-piece";
  spec.element = ElementType::kFloat32;
  spec.layers = 1;
  spec.kv_heads = 1;
  return spec;
}

/// The shape of Llama-3-8B but for the head size, which the piece decides.
ContentSpec llama_content() {
  ContentSpec spec;
  spec.model = "perf-llama";
  spec.element = ElementType::kFloat16;
  spec.layers = kLayers;
  spec.kv_heads = kHeads;
  return spec;
}

uint64_t word_of(uint64_t position, uint64_t piece) {
  return Random(position * 0x10001 + piece).next();
}

}  // namespace

std::vector<std::string> transfer_patterns() {
  std::vector<std::string> names;
  for (const auto& [name, pattern] : kPatterns) names.emplace_back(name);
  return names;
}

Result<TransferPattern> parse_transfer_pattern(std::string_view text) {
  for (const auto& [name, pattern] : kPatterns) {
    if (name == text) return pattern;
  }
  return invalid_argument(
      fmt::format("no pattern \"{}\"; there are {}", text, fmt::join(transfer_patterns(), ", ")));
}

std::string_view to_string(TransferPattern pattern) {
  return kPatterns[static_cast<size_t>(pattern)].first;
}

std::string print_case(const TransferCase& measured) {
  return nlohmann::ordered_json{{"transport", measured.transport},
                                {"read", measured.read},
                                {"pattern", to_string(measured.pattern)},
                                {"piece_bytes", measured.piece_bytes},
                                {"pieces", measured.pieces},
                                {"repeat", measured.repeat},
                                {"streams", measured.streams},
                                {"copy_threads", measured.copy_threads},
                                {"send_buffer", measured.send_buffer},
                                {"receive_buffer", measured.receive_buffer},
                                {"verify", measured.verify}}
      .dump();
}

Result<TransferCase> parse_case(const std::string& text) {
  TransferCase measured;
  std::string pattern;
  try {
    const auto json = nlohmann::json::parse(text);
    json.at("transport").get_to(measured.transport);
    json.at("read").get_to(measured.read);
    json.at("pattern").get_to(pattern);
    json.at("piece_bytes").get_to(measured.piece_bytes);
    json.at("pieces").get_to(measured.pieces);
    json.at("repeat").get_to(measured.repeat);
    json.at("streams").get_to(measured.streams);
    json.at("copy_threads").get_to(measured.copy_threads);
    json.at("send_buffer").get_to(measured.send_buffer);
    json.at("receive_buffer").get_to(measured.receive_buffer);
    json.at("verify").get_to(measured.verify);
  } catch (const nlohmann::json::exception& error) {
    return invalid_argument(fmt::format("malformed case: {}", error.what()));
  }
  MEMPOOL_ASSIGN_OR_RETURN(measured.pattern, parse_transfer_pattern(pattern));
  MEMPOOL_RETURN_IF_ERROR(shape_of(measured).status());
  return measured;
}

std::string describe(const TransferCase& measured) {
  const Result<TransferShape> shape = shape_of(measured);
  return fmt::format("{} over {}, {}, {} pieces of {}", measured.read ? "read" : "write",
                     measured.transport, to_string(measured.pattern),
                     shape.ok() ? shape->pieces() : measured.pieces,
                     print_size(measured.piece_bytes));
}

Result<TransferShape> shape_of(const TransferCase& measured) {
  const bool single = measured.pattern == TransferPattern::kScattered ||
                      measured.pattern == TransferPattern::kContiguous;
  TransferShape shape;
  shape.content = single ? single_piece_content() : llama_content();
  shape.content.tokens_per_block =
      single && measured.piece_bytes > kLargePiece ? kTokensOfLargePiece : kTokensPerBlock;
  shape.scattered = measured.pattern != TransferPattern::kContiguous;
  shape.pieces_per_block = single ? 1 : 2 * kLayers;
  if (measured.pattern == TransferPattern::kAggregated ||
      measured.pattern == TransferPattern::kDiscreteThere) {
    shape.placement.form = BlockForm::kAggregated;
  }
  if (measured.pattern == TransferPattern::kAggregated ||
      measured.pattern == TransferPattern::kDiscreteHere) {
    shape.serving_placement.form = BlockForm::kAggregated;
  }
  const uint64_t vectors = uint64_t{shape.content.tokens_per_block} * shape.content.kv_heads;
  const uint64_t unit = vectors * element_bytes(shape.content.element);
  const uint64_t elements = measured.piece_bytes / unit;
  if (elements == 0 || elements > kDimensionMax || measured.piece_bytes % unit != 0) {
    return invalid_argument(
        fmt::format("pieces of {} bytes in pattern {}: give a multiple of {} "
                    "up to {}",
                    measured.piece_bytes, to_string(measured.pattern), unit, unit * kDimensionMax));
  }
  (single ? shape.content.mla_rank : shape.content.head_size) = static_cast<uint32_t>(elements);
  uint64_t pieces = measured.pieces;
  if (pieces == 0) pieces = std::min(kDefaultPiecesMax, kDefaultBytes / measured.piece_bytes);
  if (pieces > kPiecesMax) {
    return invalid_argument(
        fmt::format("{} pieces are asked for; give at most {}", pieces, kPiecesMax));
  }
  shape.blocks = static_cast<uint32_t>(
      std::max<uint64_t>(1, (pieces + shape.pieces_per_block - 1) / shape.pieces_per_block));
  return shape;
}

std::map<std::string, std::string> options_at(const TransferSite& site,
                                              const TransferCase& measured) {
  std::map<std::string, std::string> options;
  for (const auto& [key, value] : site.transport_options) {
    if (key.starts_with(measured.transport + ".")) options[key] = value;
  }
  if (measured.transport == "shm") {
    options["shm.copy_threads"] = std::to_string(measured.copy_threads);
  }
  if (measured.transport == "tcp") {
    options["tcp.streams"] = std::to_string(measured.streams);
    options["tcp.send_buffer"] = std::to_string(measured.send_buffer);
    options["tcp.receive_buffer"] = std::to_string(measured.receive_buffer);
  }
  return options;
}

std::vector<uint32_t> list_order(const TransferShape& shape) {
  std::vector<uint32_t> order(shape.blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (!shape.scattered) return order;
  Random random(1);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

std::vector<ListedPiece> piece_order(const TransferShape& shape) {
  const bool by_block = shape.serving_placement.form == BlockForm::kAggregated;
  const uint32_t outer = by_block ? shape.blocks : shape.pieces_per_block;
  const uint32_t inner = by_block ? shape.pieces_per_block : shape.blocks;
  std::vector<ListedPiece> order;
  order.reserve(shape.pieces());
  for (uint32_t i = 0; i < outer; ++i) {
    for (uint32_t j = 0; j < inner; ++j) {
      order.push_back(by_block ? ListedPiece{i, j} : ListedPiece{j, i});
    }
  }
  return order;
}

std::vector<TokenId> tokens_of(const TransferShape& shape, uint32_t repeat) {
  Random random(repeat + 1);
  std::vector<TokenId> tokens(size_t{shape.blocks} * shape.content.tokens_per_block);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random.below(kVocabulary));
  tokens.front() = kVocabulary + repeat;
  return tokens;
}

void fill_piece(std::span<std::byte> bytes, uint64_t position, uint64_t piece) {
  uint64_t word = word_of(position, piece);
  for (size_t at = 0; at + sizeof(word) <= bytes.size(); at += sizeof(word), ++word) {
    std::memcpy(bytes.data() + at, &word, sizeof(word));
  }
}

bool holds_piece(std::span<const std::byte> bytes, uint64_t position, uint64_t piece) {
  uint64_t word = word_of(position, piece);
  for (size_t at = 0; at + sizeof(word) <= bytes.size(); at += sizeof(word), ++word) {
    if (std::memcmp(bytes.data() + at, &word, sizeof(word)) != 0) return false;
  }
  return true;
}

}  // namespace mempool
