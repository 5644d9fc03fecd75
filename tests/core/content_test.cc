// SPDX-License-Identifier: Apache-2.0
// Tests the naming of contents: which fields count, where, and what is refused.
#include "mempool/content.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mempool {
namespace {

using Change = std::function<void(ContentSpec&)>;

ContentSpec llama() {
  return {.model = "llama-2-13b",
          .revision = "main",
          .layers = 40,
          .kv_heads = 40,
          .head_size = 128,
          .position_encoding = "rope"};
}

ContentSpec changed(const Change& change) {
  ContentSpec spec = llama();
  change(spec);
  return spec;
}

Content content_of(const ContentSpec& spec) {
  Result<Content> content = make_content(spec);
  EXPECT_TRUE(content.ok()) << content.status().to_string();
  return content.value();
}

// What both agents must share before blocks move.
const std::vector<Change> kModelChanges = {
    [](ContentSpec& s) { s.model = "llama-2-7b"; },
    [](ContentSpec& s) { s.revision = "v2"; },
    [](ContentSpec& s) { s.element = ElementType::kBfloat16; },
    [](ContentSpec& s) { s.quantization = "kivi-2"; },
    [](ContentSpec& s) { s.layers = 41; },
    [](ContentSpec& s) { s.kv_heads = 8; },
    [](ContentSpec& s) { s.head_size = 64; },
    [](ContentSpec& s) { s.kv_heads = 1, s.mla_rank = 512; },
    [](ContentSpec& s) { s.tokens_per_block = 32; },
    [](ContentSpec& s) { s.position_encoding = "alibi"; },
};

// What tells prompts of one model apart.
const std::vector<Change> kRootChanges = {
    [](ContentSpec& s) { s.adapter = "lora-1"; },
    [](ContentSpec& s) { s.tenant_salt = "tenant-1"; },
    [](ContentSpec& s) { s.root = {std::byte{1}}; },
    [](ContentSpec& s) {
      s.root = {std::byte{1}, std::byte{0}};
    },
};

TEST(Content, id_changes_with_every_field) {
  std::set<ContentId> ids = {content_of(llama()).id};
  for (const Change& change : kModelChanges) ids.insert(content_of(changed(change)).id);
  for (const Change& change : kRootChanges) ids.insert(content_of(changed(change)).id);
  EXPECT_EQ(ids.size(), 1 + kModelChanges.size() + kRootChanges.size());
}

TEST(Content, model_changes_with_the_model_and_not_with_adapter_salt_or_root) {
  std::set<ContentId> models = {content_of(llama()).model};
  for (const Change& change : kModelChanges) models.insert(content_of(changed(change)).model);
  EXPECT_EQ(models.size(), 1 + kModelChanges.size());
  for (const Change& change : kRootChanges) {
    EXPECT_EQ(content_of(changed(change)).model, content_of(llama()).model);
  }
}

TEST(Content, bytes_that_move_from_one_field_to_the_next_give_another_id) {
  const ContentSpec left = changed([](ContentSpec& s) { s.model += "x"; });
  const ContentSpec right = changed([](ContentSpec& s) { s.revision.insert(0, 1, 'x'); });
  EXPECT_NE(content_of(left).id, content_of(right).id);
}

TEST(Content, head_size_does_not_count_with_mla) {
  ContentSpec mla = changed(kModelChanges[7]);
  const Content content = content_of(mla);
  mla.head_size = 0;
  EXPECT_EQ(content_of(mla), content);
}

TEST(Content, id_is_the_same_in_every_version) {
  EXPECT_EQ(to_string(content_of(llama()).id), "1c981337b6b6b70e3979527d914a9dd2");
}

TEST(Content, bad_dimensions_are_refused_by_name) {
  const std::vector<std::pair<std::string, Change>> bad = {
      {"layers", [](ContentSpec& s) { s.layers = 0; }},
      {"layers", [](ContentSpec& s) { s.layers = 65537; }},
      {"kv_heads", [](ContentSpec& s) { s.kv_heads = 0; }},
      {"kv_heads", [](ContentSpec& s) { s.mla_rank = 512; }},
      {"head_size", [](ContentSpec& s) { s.head_size = 0; }},
      {"head_size", [](ContentSpec& s) { s.head_size = UINT32_MAX; }},
      {"mla_rank", [](ContentSpec& s) { s.kv_heads = 1, s.mla_rank = UINT32_MAX; }},
      {"tokens_per_block", [](ContentSpec& s) { s.tokens_per_block = 0; }},
      {"element", [](ContentSpec& s) { s.element = static_cast<ElementType>(99); }},
  };
  for (const auto& [name, change] : bad) {
    const Status status = make_content(changed(change)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << name;
    EXPECT_NE(status.message().find(name), std::string_view::npos) << status.message();
  }
}

TEST(Content, elements_have_their_sizes) {
  EXPECT_EQ(element_bytes(ElementType::kFloat32), 4u);
  EXPECT_EQ(element_bytes(ElementType::kFloat16), 2u);
  EXPECT_EQ(element_bytes(ElementType::kBfloat16), 2u);
  EXPECT_EQ(element_bytes(ElementType::kFloat8E4m3), 1u);
  EXPECT_EQ(element_bytes(ElementType::kFloat8E5m2), 1u);
  EXPECT_EQ(element_bytes(ElementType::kInt8), 1u);
}

}  // namespace
}  // namespace mempool
