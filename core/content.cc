// SPDX-License-Identifier: Apache-2.0
// Owns the naming of a content: the check of its dimensions and its canonical bytes.
#include "mempool/content.h"

#include <fmt/format.h>

#include "core/canonical.h"
#include "core/check.h"

namespace mempool {
namespace {

constexpr uint32_t kDimensionMax = 1u << 16;  // far above any model, far below an overflow

Status check_dimension(std::string_view name, uint32_t value) {
  if (value >= 1 && value <= kDimensionMax) return Status();
  return invalid_argument(
      fmt::format("content: {} is {}, give 1 to {}", name, value, kDimensionMax));
}

CanonicalBytes canonical_bytes(const ContentSpec& spec) {
  CanonicalBytes bytes;
  bytes.add("mempool content 1");
  bytes.add(spec.model);
  bytes.add(spec.revision);
  bytes.add(spec.adapter);
  bytes.add(static_cast<uint64_t>(spec.element));
  bytes.add(spec.quantization);
  bytes.add(spec.layers);
  bytes.add(spec.kv_heads);
  bytes.add(spec.mla_rank == 0 ? spec.head_size : 0);
  bytes.add(spec.mla_rank);
  bytes.add(spec.tokens_per_block);
  bytes.add(spec.position_encoding);
  bytes.add(spec.tenant_salt);
  bytes.add(spec.root);
  return bytes;
}

}  // namespace

uint32_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return 4;
    case ElementType::kFloat16:
    case ElementType::kBfloat16:
      return 2;
    case ElementType::kFloat8E4m3:
    case ElementType::kFloat8E5m2:
    case ElementType::kInt8:
      return 1;
  }
  return 0;
}

Status check_shape(const ContentSpec& spec) {
  if (element_bytes(spec.element) == 0) {
    return invalid_argument(fmt::format("content: element type {} is not known to this version",
                                        static_cast<unsigned>(spec.element)));
  }
  MEMPOOL_RETURN_IF_ERROR(check_dimension("layers", spec.layers));
  MEMPOOL_RETURN_IF_ERROR(check_dimension("kv_heads", spec.kv_heads));
  MEMPOOL_RETURN_IF_ERROR(check_dimension("tokens_per_block", spec.tokens_per_block));
  if (spec.mla_rank == 0) return check_dimension("head_size", spec.head_size);
  if (spec.kv_heads != 1) {
    return invalid_argument(fmt::format(
        "content: kv_heads is {}, but MLA keeps one vector for all heads: give 1", spec.kv_heads));
  }
  return check_dimension("mla_rank", spec.mla_rank);
}

Result<Content> make_content(const ContentSpec& spec) {
  MEMPOOL_RETURN_IF_ERROR(check_shape(spec));
  ContentSpec bare = spec;
  bare.adapter.clear();
  bare.tenant_salt.clear();
  bare.root.clear();
  MEMPOOL_ASSIGN_OR_RETURN(const ContentId id, content_hash(canonical_bytes(spec)));
  MEMPOOL_ASSIGN_OR_RETURN(const ContentId model, content_hash(canonical_bytes(bare)));
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t tenant, tenant_hash(spec.tenant_salt));
  return Content{id, model, tenant};
}

std::string to_string(const ContentId& id) {
  return fmt::format("{:016x}{:016x}", id.words[0], id.words[1]);
}

}  // namespace mempool
