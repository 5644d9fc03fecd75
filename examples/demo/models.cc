// SPDX-License-Identifier: Apache-2.0
// Owns the dimensions of the models, as their published configurations have them.
#include "examples/demo/models.h"

#include <algorithm>
#include <string>

#include "core/check.h"

namespace mempool::demo {
namespace {

ContentSpec llama(std::string_view name, uint32_t layers, uint32_t kv_heads,
                  uint32_t head_size = 128) {
  ContentSpec spec;
  spec.model = std::string(name);
  spec.element = ElementType::kFloat16;
  spec.layers = layers;
  spec.kv_heads = kv_heads;
  spec.head_size = head_size;
  spec.tokens_per_block = 16;
  spec.position_encoding = "rope";
  return spec;
}

}  // namespace

const std::vector<ContentSpec>& models() {
  static const std::vector<ContentSpec> all = {llama(kLlama2, 40, 40), llama(kLlama3, 32, 8),
                                               llama(kTinyLlama, 22, 4, 64)};
  return all;
}

bool is_shown_unasked(const ContentSpec& spec) {
  return spec.model != kTinyLlama;
}

const ContentSpec& model(std::string_view name) {
  const auto found = std::find_if(models().begin(), models().end(),
                                  [&](const ContentSpec& spec) { return spec.model == name; });
  MEMPOOL_CHECK(found != models().end());
  return *found;
}

}  // namespace mempool::demo
