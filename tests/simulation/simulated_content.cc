// SPDX-License-Identifier: Apache-2.0
// Owns the draw of prompts.
#include "tests/simulation/simulated_content.h"

namespace mempool::simulation {
namespace {

constexpr uint32_t kTokensPerBlock = 4;

ContentSpec shape_for(const std::string& tenant) {
  ContentSpec spec;
  spec.model = "simulated";
  spec.element = ElementType::kInt8;
  spec.layers = 2;
  spec.kv_heads = 2;
  spec.head_size = 2;
  spec.tokens_per_block = kTokensPerBlock;
  spec.tenant_salt = tenant;
  return spec;
}

}  // namespace

const ContentSpec& simulated_shape() {
  static const ContentSpec shape = shape_for("");
  return shape;
}

std::span<const Content> simulated_contents() {
  static const std::vector<Content> contents = {make_content(shape_for("red")).value(),
                                                make_content(shape_for("blue")).value()};
  return contents;
}

std::vector<TokenId> draw_tokens(Random& random, size_t most_blocks) {
  const size_t count = 1 + random.below(most_blocks * kTokensPerBlock);
  std::vector<TokenId> tokens;
  TokenId word = 0;
  for (size_t i = 0; i < count; ++i) {
    // One choice a block, weighted, so that long prefixes are shared.
    if (i % kTokensPerBlock == 0) word = random.chance(0.7) ? 10 : 20;
    tokens.push_back(word + static_cast<TokenId>(i % kTokensPerBlock));
  }
  return tokens;
}

}  // namespace mempool::simulation
