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

constexpr uint32_t kIdlePoolBlocks = 1;  // the least, where the engine has all KV

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
  options.transport_options = setup.transport_options;
  options.require = options.transports;  // so that the error says why it cannot open
  options.content = model(setup.model);
  options.placement.form =
      setup.placement == "aggregated" ? BlockForm::kAggregated : BlockForm::kDiscrete;
  const bool own = setup.memory == "engine";
  options.segment_blocks = {own ? kIdlePoolBlocks : setup.kv_blocks};
  options.max_blocks = kIdlePoolBlocks + setup.kv_blocks;
  std::unique_ptr<EngineStandIn> engine(new EngineStandIn());
  MEMPOOL_ASSIGN_OR_RETURN(engine->agent_, Agent::start(options));
  MEMPOOL_ASSIGN_OR_RETURN(engine->content_, engine->agent_->content(options.content));
  if (own) {
    MEMPOOL_ASSIGN_OR_RETURN(engine->memory_, tensor_memory(*engine->agent_, options.content,
                                                            options.placement, setup.kv_blocks));
  } else {
    engine->memory_ = pool_memory(*engine->agent_);
  }
  return engine;
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
      MEMPOOL_ASSIGN_OR_RETURN(std::byte* const piece,
                               memory_->piece(blocks[position], layer, part));
      fill_piece(layout, layer, part, of_block(prefixes, position, layout.tokens), piece);
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
        MEMPOOL_ASSIGN_OR_RETURN(const std::byte* const piece,
                                 memory_->piece(blocks[position], layer, part));
        const std::optional<VectorPlace> wrong =
            find_wrong_vector(layout, layer, part, known, piece);
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

Status EngineStandIn::end() {
  MEMPOOL_RETURN_IF_ERROR(memory_->end());
  return agent_->status().audit;
}

}  // namespace mempool::demo
