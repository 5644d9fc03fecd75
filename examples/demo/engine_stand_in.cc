// SPDX-License-Identifier: Apache-2.0
// Owns the walk over the pieces of a prompt's blocks.
#include "examples/demo/engine_stand_in.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "examples/demo/kv_pattern.h"
#include "examples/demo/models.h"

namespace mempool::demo {
namespace {

/// The part of a prompt's hashes that belongs to its block at `position`.
std::span<const uint64_t> of_block(std::span<const uint64_t> hashes, size_t position,
                                   size_t tokens_per_block) {
  const size_t begin = position * tokens_per_block;
  return hashes.subspan(begin, std::min(tokens_per_block, hashes.size() - begin));
}

}  // namespace

Result<std::unique_ptr<EngineStandIn>> EngineStandIn::start(const Setup& setup) {
  AgentOptions options;
  options.name = setup.name;
  options.token = setup.token;
  options.transports = {setup.transport};
  options.require = options.transports;  // so that the error says why it cannot open
  options.content = model(setup.model);
  options.placement.form =
      setup.placement == "aggregated" ? BlockForm::kAggregated : BlockForm::kDiscrete;
  options.segment_blocks = {setup.pool_blocks};
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<Agent> agent, Agent::start(options));
  MEMPOOL_ASSIGN_OR_RETURN(const Content content, agent->content(options.content));
  return std::unique_ptr<EngineStandIn>(new EngineStandIn(std::move(agent), content));
}

std::vector<uint64_t> EngineStandIn::prefixes(std::span<const TokenId> tokens) const {
  return prefix_hashes(content_.id.words[0], tokens);
}

Status EngineStandIn::fill_layer(std::span<const uint64_t> prefixes,
                                 std::span<const BlockAddress> blocks, size_t first,
                                 uint32_t layer) {
  const BlockLayout& layout = agent_->layout();
  for (size_t position = first; position < blocks.size(); ++position) {
    for (uint32_t part = 0; part < layout.parts; ++part) {
      MEMPOOL_ASSIGN_OR_RETURN(const std::span<std::byte> piece,
                               agent_->piece(blocks[position], layer, part));
      fill_piece(layout, layer, part, of_block(prefixes, position, layout.tokens), piece.data());
    }
  }
  return Status();
}

Result<uint64_t> EngineStandIn::check(std::span<const TokenId> tokens,
                                      std::span<const BlockAddress> blocks) {
  const BlockLayout& layout = agent_->layout();
  const std::vector<uint64_t> hashes = prefixes(tokens);
  uint64_t bytes = 0;
  for (size_t position = 0; position < blocks.size(); ++position) {
    const std::span<const uint64_t> known = of_block(hashes, position, layout.tokens);
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        MEMPOOL_ASSIGN_OR_RETURN(const std::span<const std::byte> piece,
                                 agent_->piece(blocks[position], layer, part));
        const std::optional<VectorPlace> wrong =
            find_wrong_vector(layout, layer, part, known, piece.data());
        if (wrong) {
          return corruption(fmt::format(
              "block {} ({} of the prompt), layer {}, part {}, token {}, "
              "head {} is not what was filled",
              to_string(blocks[position]), position, layer, part, wrong->token, wrong->head));
        }
        bytes += known.size() * layout.heads * layout.vector_bytes;
      }
    }
  }
  return bytes;
}

}  // namespace mempool::demo
