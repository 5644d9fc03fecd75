// SPDX-License-Identifier: Apache-2.0
// Owns the checks of the C API: how calls end, opening, blocks and index, and what is refused.
#include <unistd.h>

#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/c_api.h"
#include "tests/agent/c_linkage.h"
#include "tests/agent/c_pair.h"
#include "tests/agent/engine_memory.h"

namespace mempool {
namespace {

using testing::ArrivalHandle;
using testing::c_spec;
using testing::CApi;
using testing::EngineMemory;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::kTokens;
using testing::ok;
using testing::open_pool;
using testing::PoolHandle;
using testing::refused;
using testing::TensorForm;
using testing::TransferHandle;

constexpr uint32_t kTensorBlocks = 8;

/// The layout of the pools of open_pool().
BlockLayout tiny_layout() {
  ContentSpec spec;
  spec.model = "tiny";
  spec.layers = 3;
  spec.kv_heads = 2;
  spec.head_size = 8;
  spec.tokens_per_block = kTokens;
  return make_layout(spec, Placement(), 1).value();
}

// ---- how calls end ---------------------------------------------------------------------------

TEST(CStatus, codes_and_their_names_are_those_of_the_cpp_api) {
  for (int code = MEMPOOL_OK; code <= MEMPOOL_INTERNAL; ++code) {
    EXPECT_EQ(mempool_status_name(static_cast<mempool_status>(code)),
              status_code_name(static_cast<StatusCode>(code)));
  }
  EXPECT_STREQ(mempool_status_name(MEMPOOL_STALE), "STALE");
  EXPECT_STREQ(mempool_status_name(static_cast<mempool_status>(77)), "UNKNOWN");
  EXPECT_THAT(mempool_version(), HasSubstr("."));
}

TEST(CStatus, the_last_error_belongs_to_its_thread_and_stays_until_the_next) {
  EXPECT_EQ(mempool_make_fence(nullptr), MEMPOOL_INVALID_ARGUMENT);
  const std::string here = mempool_last_error();
  EXPECT_NE(here, "");
  std::thread([] { EXPECT_STREQ(mempool_last_error(), ""); }).join();
  mempool_fence* fence = nullptr;
  EXPECT_TRUE(ok(mempool_make_fence(&fence)));
  EXPECT_EQ(mempool_last_error(), here);
  mempool_free_fence(fence);
}

TEST(CStatus, no_exception_leaves_a_call) {
  EXPECT_TRUE(refused(c_api::run([]() -> Status { throw std::bad_alloc(); }),
                      MEMPOOL_RESOURCE_EXHAUSTED, "memory"));
  EXPECT_TRUE(refused(c_api::run([]() -> Status { throw std::runtime_error("a defect"); }),
                      MEMPOOL_INTERNAL, "a defect"));
  EXPECT_TRUE(refused(c_api::run([]() -> Status { throw 7; }), MEMPOOL_INTERNAL, "exception"));
}

TEST(CStatus, structs_of_other_versions_are_read_as_far_as_both_know_them) {
  struct Newer {
    mempool_transfer_options known;
    uint64_t later;
  } newer{};
  newer.known.size = sizeof newer;
  newer.known.request_id = 7;
  EXPECT_EQ(c_api::take(&newer.known, "options")->request_id, 7u);
  newer.later = 1;
  EXPECT_EQ(c_api::take(&newer.known, "options").status().code(), StatusCode::kUnsupported);

  newer.known.size = offsetof(mempool_transfer_options, request_id);
  EXPECT_EQ(c_api::take(&newer.known, "options")->request_id, 0u);
  newer.known.size = 0;
  EXPECT_EQ(c_api::take(&newer.known, "options").status().code(), StatusCode::kInvalidArgument);
}

// ---- opening ---------------------------------------------------------------------------------

TEST(COpen, a_setting_that_is_none_is_refused_by_name) {
  mempool_pool* pool = nullptr;
  const char* const unknown[] = {"pool.bites=1GiB"};
  EXPECT_TRUE(refused(mempool_open(nullptr, unknown, 1, &pool), MEMPOOL_INVALID_ARGUMENT,
                      "did you mean \"pool.bytes\"?"));
  EXPECT_TRUE(refused(mempool_open("/nowhere.toml", nullptr, 0, &pool), MEMPOOL_NOT_FOUND,
                      "/nowhere.toml"));
  const char* const null[] = {nullptr};
  EXPECT_TRUE(refused(mempool_open(nullptr, null, 1, &pool), MEMPOOL_INVALID_ARGUMENT,
                      "settings[0] is null"));
  EXPECT_EQ(pool, nullptr);
}

TEST(COpen, an_engine_attaches_to_an_agent_and_asks_the_same_of_it) {
  const std::string folder = ::testing::TempDir() + "mempool_c_api_" + std::to_string(getpid());
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/engine.sock";
  const PoolHandle agent = open_pool("agent", {"agent.engine_socket=" + path});
  mempool_pool* attached = nullptr;
  EXPECT_EQ(mempool_attach(path.c_str(), 3, 2, 0, &attached), MEMPOOL_INVALID_ARGUMENT);
  ASSERT_TRUE(ok(mempool_attach(path.c_str(), 0, 0, 0, &attached)));
  const PoolHandle engine(attached);

  const mempool_content_spec spec = c_spec();
  const std::vector<uint32_t> tokens = {1, 2, 3, 4};
  mempool_prompt prompt{{}, tokens.data(), tokens.size()};
  ASSERT_TRUE(ok(mempool_name_content(engine.get(), &spec, &prompt.content)));
  EXPECT_STREQ(c_linkage_walk(engine.get(), &prompt), nullptr) << mempool_last_error();
  EXPECT_STREQ(c_linkage_lend(engine.get(), &prompt), nullptr) << mempool_last_error();

  EXPECT_EQ(mempool_listen_address(engine.get()), nullptr);
  char* metrics = nullptr;
  EXPECT_EQ(mempool_metrics(engine.get(), &metrics), MEMPOOL_UNSUPPORTED);
  EXPECT_EQ(mempool_drain(engine.get(), 0), MEMPOOL_UNSUPPORTED);
  std::filesystem::remove_all(folder);  // the lock beside the socket outlives the agent
}

TEST(COpen, nobody_answers_where_no_agent_is) {
  mempool_pool* pool = nullptr;
  EXPECT_EQ(mempool_attach("/nowhere.sock", 0, 1, 100, &pool), MEMPOOL_UNAVAILABLE);
  EXPECT_EQ(pool, nullptr);
}

// ---- blocks and index ------------------------------------------------------------------------

TEST_F(CApi, a_program_in_c_walks_through_the_pool) {
  prompt_.token_count = kTokens;
  EXPECT_STREQ(c_linkage_walk(prefill(), &prompt_), nullptr) << mempool_last_error();
  EXPECT_STREQ(c_linkage_lend(prefill(), &prompt_), nullptr) << mempool_last_error();
}

TEST_F(CApi, strides_lead_to_the_pieces) {
  mempool_layout layout{};
  layout.size = sizeof layout;
  ASSERT_TRUE(ok(mempool_get_layout(prefill(), 0, &layout)));
  EXPECT_EQ(layout.layers, 3u);
  EXPECT_EQ(layout.tokens, kTokens);
  EXPECT_EQ(layout.vector_bytes, 16u);
  EXPECT_EQ(layout.block_bytes, 6 * layout.piece_bytes);
  EXPECT_EQ(layout.order, static_cast<uint32_t>(MEMPOOL_TOKEN_HEAD));

  mempool_block block;
  ASSERT_TRUE(ok(mempool_alloc(prefill(), 1, MEMPOOL_HOST, &block)));
  void* first = nullptr;
  void* other = nullptr;
  ASSERT_TRUE(ok(mempool_piece(prefill(), &block, 0, 0, 0, &first)));
  ASSERT_TRUE(ok(mempool_piece(prefill(), &block, 2, 1, 0, &other)));
  EXPECT_EQ(static_cast<char*>(other) - static_cast<char*>(first),
            static_cast<ptrdiff_t>(2 * layout.layer_stride + layout.part_stride));
  EXPECT_TRUE(refused(mempool_piece(prefill(), &block, 3, 0, 0, &first), MEMPOOL_INVALID_ARGUMENT,
                      "layer 3"));
}

TEST(CShards, each_rank_has_its_heads_in_the_same_blocks) {
  const PoolHandle pool = open_pool("ranks", {"pool.shards=2"});
  mempool_layout layout{};
  layout.size = sizeof layout;
  ASSERT_TRUE(ok(mempool_get_layout(pool.get(), 1, &layout)));
  EXPECT_EQ(layout.shards, 2u);
  EXPECT_EQ(layout.heads, 1u);
  EXPECT_EQ(layout.first_head, 1u);
  EXPECT_EQ(layout.replicated, 0u);
  EXPECT_TRUE(
      refused(mempool_get_layout(pool.get(), 2, &layout), MEMPOOL_INVALID_ARGUMENT, "no shard 2"));
  mempool_block block;
  void* first = nullptr;
  void* second = nullptr;
  ASSERT_TRUE(ok(mempool_alloc(pool.get(), 1, MEMPOOL_HOST, &block)));
  ASSERT_TRUE(ok(mempool_piece(pool.get(), &block, 0, 0, 0, &first)));
  ASSERT_TRUE(ok(mempool_piece(pool.get(), &block, 0, 0, 1, &second)));
  EXPECT_NE(first, second);
  EXPECT_EQ(mempool_piece(pool.get(), &block, 0, 0, 2, &second), MEMPOOL_INVALID_ARGUMENT);
}

TEST_F(CApi, blocks_are_pinned_and_freed_as_in_cpp) {
  mempool_block blocks[2];
  ASSERT_TRUE(ok(mempool_alloc(prefill(), 2, MEMPOOL_HOST, blocks)));
  EXPECT_TRUE(ok(mempool_pin(prefill(), blocks, 2)));
  EXPECT_TRUE(ok(mempool_unpin(prefill(), blocks, 2)));
  EXPECT_TRUE(ok(mempool_free(prefill(), blocks, 2)));
  EXPECT_EQ(mempool_free(prefill(), blocks, 2), MEMPOOL_STALE);
  EXPECT_EQ(mempool_alloc(prefill(), 1000, MEMPOOL_HOST, blocks), MEMPOOL_RESOURCE_EXHAUSTED);
  EXPECT_EQ(mempool_alloc(prefill(), 1, MEMPOOL_DEVICE, blocks), MEMPOOL_UNSUPPORTED);
}

TEST_F(CApi, an_insert_says_which_blocks_serve_and_which_are_duplicates) {
  const auto blocks = filled_blocks();
  const auto again = filled_blocks();
  std::vector<mempool_block> serving(2);
  std::vector<mempool_block> duplicates(2);
  mempool_inserted inserted{};
  inserted.size = sizeof inserted;
  inserted.serving = serving.data();
  inserted.duplicates = duplicates.data();
  ASSERT_TRUE(ok(mempool_insert(prefill(), &prompt_, blocks.data(), 2, nullptr)));
  ASSERT_TRUE(ok(mempool_insert(prefill(), &prompt_, again.data(), 2, &inserted)));
  EXPECT_EQ(inserted.admitted, 2u);
  ASSERT_EQ(inserted.duplicate_count, 2u);
  EXPECT_EQ(std::memcmp(serving.data(), blocks.data(), 2 * sizeof(mempool_block)), 0);
  EXPECT_EQ(std::memcmp(duplicates.data(), again.data(), 2 * sizeof(mempool_block)), 0);
  EXPECT_EQ(mempool_insert(prefill(), &prompt_, blocks.data(), 1, nullptr),
            MEMPOOL_INVALID_ARGUMENT);
}

TEST_F(CApi, a_list_too_small_for_a_match_is_told_its_size_and_keeps_no_pin) {
  const auto blocks = filled_blocks();
  ASSERT_TRUE(ok(mempool_insert(prefill(), &prompt_, blocks.data(), 2, nullptr)));
  ASSERT_TRUE(ok(mempool_unpin(prefill(), blocks.data(), 2)));
  mempool_block one;
  size_t count = 0;
  EXPECT_TRUE(refused(mempool_match(prefill(), &prompt_, &one, 1, &count), MEMPOOL_INVALID_ARGUMENT,
                      "room for 2"));
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(mempool_unpin(prefill(), blocks.data(), 1), MEMPOOL_INVALID_ARGUMENT);
  EXPECT_EQ(matched(prefill()), 2u);
}

TEST_F(CApi, keys_find_their_blocks) {
  const auto blocks = filled_blocks();
  const mempool_key keys[] = {{"a", 1}, {"b\0c", 3}, {"never", 5}};
  std::vector<mempool_block> held(3);
  size_t count = 0;
  ASSERT_TRUE(ok(mempool_insert_keys(prefill(), keys, blocks.data(), 2, nullptr)));
  ASSERT_TRUE(ok(mempool_match_keys(prefill(), keys, 3, held.data(), &count)));
  ASSERT_EQ(count, 2u);
  EXPECT_EQ(std::memcmp(held.data(), blocks.data(), 2 * sizeof(mempool_block)), 0);
  ASSERT_TRUE(ok(mempool_unpin(prefill(), held.data(), 2)));
  ASSERT_TRUE(ok(mempool_erase_keys(prefill(), keys, 3, &count)));
  EXPECT_EQ(count, 2u);
  const mempool_key null_key = {nullptr, 3};
  EXPECT_EQ(mempool_match_keys(prefill(), &null_key, 1, held.data(), &count),
            MEMPOOL_INVALID_ARGUMENT);
}

// ---- memory of the engine's own --------------------------------------------------------------

/// The tensors of testing::EngineMemory, as C has them.
mempool_tensors tensors_of(const EngineMemory& memory) {
  const AdoptedMemory& shape = memory.shape();
  return {shape.data,         shape.bytes,       shape.block_stride,
          shape.layer_stride, shape.part_stride, shape.descriptor};
}

mempool_adopt_options adopting(const mempool_tensors& tensors) {
  mempool_adopt_options options{};
  options.size = sizeof options;
  options.shards = &tensors;
  options.shard_count = 1;
  options.blocks = kTensorBlocks;
  return options;
}

TEST_F(CApi, an_engines_tensors_are_sent_from_where_they_lie_until_they_are_withdrawn) {
  const EngineMemory memory(tiny_layout(), kTensorBlocks, TensorForm::kPartsInBlock);
  const mempool_tensors tensors = tensors_of(memory);
  const mempool_adopt_options options = adopting(tensors);
  ASSERT_TRUE(ok(mempool_adopt(prefill(), "kv", &options)));
  EXPECT_EQ(mempool_adopt(prefill(), "kv", &options), MEMPOOL_ALREADY_EXISTS);
  const uint32_t numbers[] = {5, 0, 2};
  std::vector<mempool_block> blocks(3);
  ASSERT_TRUE(ok(mempool_claim(prefill(), "kv", numbers, 3, blocks.data())));
  for (uint32_t layer = 0; layer < 3; ++layer) fill(blocks, layer);
  EXPECT_EQ(*memory.piece(2, 2, 1), std::byte{252}) << "a block of the C API is the engine's";

  const TransferHandle transfer = begin(blocks);
  ASSERT_TRUE(ok(mempool_wait(transfer.get())));
  const ArrivalHandle arrival = receive();
  const mempool_arrival_view arrived = view(arrival);
  ASSERT_EQ(arrived.block_count, 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(decode(), arrived.blocks[i], i));
  EXPECT_TRUE(refused(mempool_withdraw(prefill(), "kv", 0), MEMPOOL_DEADLINE_EXCEEDED, "in use"));
  ASSERT_TRUE(ok(mempool_free(prefill(), blocks.data(), blocks.size())));
  ASSERT_TRUE(ok(mempool_withdraw(prefill(), "kv", kPatience)));
  EXPECT_EQ(mempool_withdraw(prefill(), "kv", 0), MEMPOOL_NOT_FOUND);
}

TEST_F(CApi, tensors_are_inserted_by_copy_or_in_place) {
  for (const uint32_t in_place : {0u, 1u}) {
    const EngineMemory memory(tiny_layout(), kTensorBlocks);
    const mempool_tensors tensors = tensors_of(memory);
    mempool_adopt_options options = adopting(tensors);
    options.insert_in_place = in_place;
    ASSERT_TRUE(ok(mempool_adopt(prefill(), "kv", &options)));
    const uint32_t numbers[] = {1, 2};
    mempool_block blocks[2];
    ASSERT_TRUE(ok(mempool_claim(prefill(), "kv", numbers, 2, blocks)));
    mempool_inserted inserted{};
    inserted.size = sizeof inserted;
    ASSERT_TRUE(ok(mempool_insert(prefill(), &prompt_, blocks, 2, &inserted)));
    EXPECT_EQ(inserted.admitted, 2u);
    EXPECT_EQ(inserted.duplicate_count, in_place == 0 ? 2u : 0u);
    ASSERT_TRUE(ok(mempool_unpin(prefill(), blocks, 2)));
    EXPECT_EQ(matched(prefill()), 2u);
    ASSERT_TRUE(ok(mempool_withdraw(prefill(), "kv", kPatience)));
    EXPECT_EQ(matched(prefill()), in_place == 0 ? 2u : 0u);
    mempool_prompt first = prompt_;
    first.token_count = kTokens;
    ASSERT_TRUE(ok(mempool_erase(prefill(), &first, nullptr)));
  }
}

TEST_F(CApi, tensors_that_cannot_be_adopted_are_refused_by_name) {
  const EngineMemory memory(tiny_layout(), kTensorBlocks);
  mempool_tensors tensors = tensors_of(memory);
  mempool_adopt_options options = adopting(tensors);
  options.shard_count = 2;
  const mempool_tensors twice[] = {tensors, tensors};
  options.shards = twice;
  EXPECT_TRUE(refused(mempool_adopt(prefill(), "kv", &options), MEMPOOL_INVALID_ARGUMENT,
                      "memory of 2 shards"));
  options = adopting(tensors);
  tensors.layer_stride = tensors.part_stride;
  EXPECT_TRUE(
      refused(mempool_adopt(prefill(), "kv", &options), MEMPOOL_INVALID_ARGUMENT, "they overlap"));
  tensors = tensors_of(memory);
  tensors.descriptor = 0;
  EXPECT_TRUE(refused(mempool_adopt(prefill(), "kv", &options), MEMPOOL_PERMISSION_DENIED,
                      "sealed against resizing"));
  const uint32_t number = kTensorBlocks;
  mempool_block block;
  EXPECT_EQ(mempool_claim(prefill(), "kv", &number, 1, &block), MEMPOOL_NOT_FOUND);
  tensors = tensors_of(memory);
  ASSERT_TRUE(ok(mempool_adopt(prefill(), "kv", &options)));
  EXPECT_TRUE(refused(mempool_claim(prefill(), "kv", &number, 1, &block), MEMPOOL_INVALID_ARGUMENT,
                      "block 8 of 'kv'"));
}

// ---- nonsense --------------------------------------------------------------------------------

TEST_F(CApi, null_is_refused_and_frees_nothing) {
  mempool_block block{};
  mempool_content_spec spec = c_spec();
  size_t count = 0;
  int descriptor = -1;
  void* piece = nullptr;
  mempool_transfer* transfer = nullptr;
  mempool_pool* opened = nullptr;
  mempool_pool* const pool = prefill();
  const mempool_key key = {"k", 1};
  const mempool_status ends[] = {
      mempool_attach(nullptr, 0, 1, 1, &opened),
      mempool_add_peer(pool, nullptr, "127.0.0.1:1"),
      mempool_add_peer(pool, "peer", nullptr),
      mempool_metrics(pool, nullptr),
      mempool_drain(nullptr, 0),
      mempool_name_content(pool, nullptr, &prompt_.content),
      mempool_name_content(nullptr, &spec, &prompt_.content),
      mempool_get_layout(pool, 0, nullptr),
      mempool_alloc(nullptr, 1, MEMPOOL_HOST, &block),
      mempool_alloc(pool, 1, MEMPOOL_HOST, nullptr),
      mempool_free(pool, nullptr, 1),
      mempool_pin(nullptr, &block, 1),
      mempool_unpin(pool, nullptr, 1),
      mempool_piece(pool, nullptr, 0, 0, 0, &piece),
      mempool_piece(pool, &block, 0, 0, 0, nullptr),
      mempool_read(pool, &block, nullptr, 1),
      mempool_insert(pool, nullptr, &block, 1, nullptr),
      mempool_insert(pool, &prompt_, nullptr, 2, nullptr),
      mempool_match(pool, &prompt_, nullptr, 1, &count),
      mempool_match(pool, &prompt_, &block, 1, nullptr),
      mempool_erase(nullptr, &prompt_, nullptr),
      mempool_insert_keys(pool, nullptr, &block, 1, nullptr),
      mempool_match_keys(pool, &key, 1, nullptr, &count),
      mempool_erase_keys(nullptr, &key, 1, nullptr),
      mempool_transfer_with_insert(pool, nullptr, &prompt_, &block, 1, nullptr, &transfer),
      mempool_transfer_with_insert(pool, "decode", &prompt_, &block, 1, nullptr, nullptr),
      mempool_fetch(pool, "decode", nullptr, nullptr, &transfer),
      mempool_send_layers(nullptr, 0, 1, nullptr),
      mempool_commit(nullptr),
      mempool_wait(nullptr),
      mempool_cancel(nullptr),
      mempool_transfer_descriptor(nullptr, &descriptor),
      mempool_get_report(nullptr, nullptr),
      mempool_serving(nullptr, &block, 1, &count),
      mempool_arrival_descriptor(pool, nullptr),
      mempool_receive(pool, 0, nullptr),
      mempool_view_arrival(nullptr, nullptr),
      mempool_signal_fence(nullptr),
  };
  for (size_t i = 0; i < std::size(ends); ++i) EXPECT_EQ(ends[i], MEMPOOL_INVALID_ARGUMENT) << i;
  mempool_close(nullptr);
  mempool_free_transfer(nullptr);
  mempool_free_arrival(nullptr);
  mempool_free_fence(nullptr);
  mempool_free_text(nullptr);
  EXPECT_EQ(mempool_done(nullptr), 1);
}

TEST_F(CApi, null_is_not_adopted) {
  mempool_adopt_options options{};
  options.size = sizeof options;
  options.shard_count = 1;
  const uint32_t number = 0;
  mempool_block block{};
  mempool_pool* const pool = prefill();
  const mempool_status ends[] = {
      mempool_adopt(nullptr, "kv", &options),
      mempool_adopt(pool, nullptr, &options),
      mempool_adopt(pool, "kv", nullptr),
      mempool_adopt(pool, "kv", &options),
      mempool_claim(pool, nullptr, &number, 1, &block),
      mempool_claim(pool, "kv", nullptr, 1, &block),
      mempool_claim(pool, "kv", &number, 1, nullptr),
      mempool_withdraw(nullptr, "kv", 0),
      mempool_withdraw(pool, nullptr, 0),
  };
  for (size_t i = 0; i < std::size(ends); ++i) EXPECT_EQ(ends[i], MEMPOOL_INVALID_ARGUMENT) << i;
}

TEST_F(CApi, words_without_a_meaning_are_refused_by_name) {
  mempool_block block{};
  const auto blocks = filled_blocks();
  mempool_transfer* transfer = nullptr;
  EXPECT_TRUE(
      refused(mempool_alloc(prefill(), 1, 7, &block), MEMPOOL_INVALID_ARGUMENT, "medium 7"));
  EXPECT_TRUE(refused(mempool_unpin(prefill(), &block, SIZE_MAX), MEMPOOL_INVALID_ARGUMENT,
                      "blocks: a list of"));
  EXPECT_TRUE(
      refused(mempool_add_peer(prefill(), "peer", "nowhere"), MEMPOOL_INVALID_ARGUMENT, "nowhere"));
  mempool_content_spec spec = c_spec();
  spec.element = 99;
  EXPECT_TRUE(refused(mempool_name_content(prefill(), &spec, &prompt_.content),
                      MEMPOOL_INVALID_ARGUMENT, "element type 99"));
  spec = c_spec();
  spec.layers = 4;
  EXPECT_TRUE(refused(mempool_name_content(prefill(), &spec, &prompt_.content),
                      MEMPOOL_INVALID_ARGUMENT, "layers"));
  mempool_transfer_options options{};
  options.size = sizeof options;
  options.mode = 9;
  EXPECT_TRUE(refused(mempool_transfer_with_insert(prefill(), "decode", &prompt_, blocks.data(),
                                                   blocks.size(), &options, &transfer),
                      MEMPOOL_INVALID_ARGUMENT, "mode 9"));
  EXPECT_EQ(mempool_transfer_with_insert(prefill(), "nobody", &prompt_, blocks.data(),
                                         blocks.size(), nullptr, &transfer),
            MEMPOOL_NOT_FOUND);
  mempool_arrival* arrival = nullptr;
  EXPECT_EQ(mempool_receive(decode(), 0, &arrival), MEMPOOL_DEADLINE_EXCEEDED);
}

TEST_F(CApi, each_element_type_is_the_one_of_its_name) {
  const std::pair<uint32_t, std::string> elements[] = {
      {MEMPOOL_BFLOAT16, "bfloat16"},
      {MEMPOOL_FLOAT32, "float32"},
      {MEMPOOL_FLOAT8_E4M3, "float8_e4m3"},
      {MEMPOOL_FLOAT8_E5M2, "float8_e5m2"},
      {MEMPOOL_INT8, "int8"},
  };
  for (const auto& [element, name] : elements) {
    const PoolHandle pool = open_pool("other", {"content.element=" + name});
    mempool_content_spec spec = c_spec();
    spec.element = element;
    EXPECT_TRUE(ok(mempool_name_content(pool.get(), &spec, &prompt_.content))) << name;
  }
}

}  // namespace
}  // namespace mempool
