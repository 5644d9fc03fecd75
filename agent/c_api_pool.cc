// SPDX-License-Identifier: Apache-2.0
// Owns the C functions of the pool: opening, contents, blocks, the engine's own memory, the index.
#include <array>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_config.h"
#include "agent/c_api.h"
#include "core/config.h"
#include "core/listen_socket.h"
#include "mempool/attach.h"

using namespace mempool;
using namespace mempool::c_api;

namespace {

constexpr std::array kElements = {ElementType::kFloat16,    ElementType::kBfloat16,
                                  ElementType::kFloat32,    ElementType::kFloat8E4m3,
                                  ElementType::kFloat8E5m2, ElementType::kInt8};
static_assert(kElements.size() == MEMPOOL_INT8 + 1);

Result<Agent*> embedded(mempool_pool* pool) {
  MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
  if (pool->agent != nullptr) return pool->agent;
  return unsupported(
      "the agent is another process: its admin pages have its metrics, SIGTERM drains it");
}

Result<std::vector<std::string>> to_settings(const char* const* settings, size_t count) {
  MEMPOOL_RETURN_IF_ERROR(need_list(settings, count, "settings"));
  std::vector<std::string> result;
  for (size_t i = 0; i < count; ++i) {
    MEMPOOL_RETURN_IF_ERROR(need(settings[i], fmt::format("settings[{}]", i)));
    result.emplace_back(settings[i]);
  }
  return result;
}

Result<ContentSpec> to_spec(const mempool_content_spec* given) {
  MEMPOOL_RETURN_IF_ERROR(need(given, "spec"));
  MEMPOOL_ASSIGN_OR_RETURN(const mempool_content_spec from, take(given, "spec"));
  MEMPOOL_RETURN_IF_ERROR(need_list(from.root, from.root_bytes, "spec.root"));
  if (from.element >= kElements.size()) {
    return invalid_argument(fmt::format("spec.element: there is no element type {}", from.element));
  }
  ContentSpec spec;
  spec.model = text(from.model);
  spec.revision = text(from.revision);
  spec.adapter = text(from.adapter);
  spec.quantization = text(from.quantization);
  spec.position_encoding = text(from.position_encoding);
  spec.tenant_salt = text(from.tenant_salt);
  const auto* const root = static_cast<const std::byte*>(from.root);
  spec.root.assign(root, root + from.root_bytes);
  spec.element = kElements[from.element];
  spec.layers = from.layers;
  spec.kv_heads = from.kv_heads;
  spec.head_size = from.head_size;
  spec.mla_rank = from.mla_rank;
  if (from.tokens_per_block != 0) spec.tokens_per_block = from.tokens_per_block;
  return spec;
}

Result<AdoptOptions> to_adopt_options(const mempool_adopt_options* given) {
  MEMPOOL_RETURN_IF_ERROR(need(given, "options"));
  MEMPOOL_ASSIGN_OR_RETURN(const mempool_adopt_options from, take(given, "options"));
  MEMPOOL_RETURN_IF_ERROR(need_list(from.shards, from.shard_count, "options.shards"));
  AdoptOptions options;
  options.blocks = from.blocks;
  options.insert_in_place = from.insert_in_place != 0;
  for (const mempool_tensors& shard : std::span(from.shards, from.shard_count)) {
    options.shards.push_back({static_cast<std::byte*>(shard.data), shard.bytes, shard.descriptor,
                              shard.block_stride, shard.layer_stride, shard.part_stride});
  }
  return options;
}

Result<std::vector<std::string_view>> to_keys(const mempool_key* keys, size_t count) {
  MEMPOOL_RETURN_IF_ERROR(need_list(keys, count, "keys"));
  std::vector<std::string_view> result;
  result.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (keys[i].bytes == nullptr) return invalid_argument(fmt::format("keys[{}] is null", i));
    result.emplace_back(static_cast<const char*>(keys[i].bytes), keys[i].length);
  }
  return result;
}

Status check_shard(const Pool& pool, uint32_t shard) {
  if (shard < pool.shards()) return {};
  return invalid_argument(fmt::format("no shard {}; the pool has {}", shard, pool.shards()));
}

/// What free, pin and unpin have in common.
mempool_status about_blocks(mempool_pool* pool, const mempool_block* blocks, size_t count,
                            Status (Pool::*call)(std::span<const BlockAddress>)) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list, to_blocks(blocks, count));
    return ((*pool->pool).*call)(list);
  });
}

/// Let `insert` publish, and say what it did.
template <typename Insert>
Status insert_and_tell(mempool_inserted* inserted, const Insert& insert) {
  MEMPOOL_ASSIGN_OR_RETURN(mempool_inserted told, take(inserted, "inserted"));
  MEMPOOL_ASSIGN_OR_RETURN(const InsertResult result, insert());
  if (inserted == nullptr) return {};
  if (told.serving != nullptr) put_blocks(result.serving, told.serving);
  if (told.duplicates != nullptr) put_blocks(result.duplicates, told.duplicates);
  told.admitted = result.admitted;
  told.duplicate_count = result.duplicates.size();
  put(told, inserted);
  return {};
}

}  // namespace

// ---- the pool --------------------------------------------------------------------------------

mempool_status mempool_open(const char* file, const char* const* settings, size_t settings_count,
                            mempool_pool** pool) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "the place for the pool"));
    MEMPOOL_ASSIGN_OR_RETURN(std::vector<std::string> flags, to_settings(settings, settings_count));
    MEMPOOL_ASSIGN_OR_RETURN(const Config config,
                             Config::load({text(file), process_environment(), std::move(flags)}));
    MEMPOOL_ASSIGN_OR_RETURN(const AgentOptions options, agent_options(config));
    MEMPOOL_RETURN_IF_ERROR(configure_log(config));
    MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<Agent> agent, Agent::start(options));
    auto handle = std::make_unique<mempool_pool>();
    handle->agent = agent.get();
    handle->listen = agent->status().listen;
    handle->pool = std::move(agent);
    *pool = handle.release();
    return {};
  });
}

mempool_status mempool_attach(const char* path, uint32_t rank, uint32_t ranks, uint32_t timeout_ms,
                              mempool_pool** pool) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(path, "path"));
    MEMPOOL_RETURN_IF_ERROR(need(pool, "the place for the pool"));
    AttachOptions options;
    options.path = path;
    options.shard = rank;
    if (ranks != 0) options.shards = ranks;
    if (timeout_ms != 0) options.timeout = std::chrono::milliseconds(timeout_ms);
    auto handle = std::make_unique<mempool_pool>();
    MEMPOOL_ASSIGN_OR_RETURN(handle->pool, attach(options));
    *pool = handle.release();
    return {};
  });
}

void mempool_close(mempool_pool* pool) {
  delete pool;
}

mempool_status mempool_add_peer(mempool_pool* pool, const char* name, const char* address) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(name, "name"));
    MEMPOOL_RETURN_IF_ERROR(need(address, "address"));
    std::string host;
    uint16_t port = 0;
    MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port));
    pool->pool->add_peer(name, address);
    return {};
  });
}

const char* mempool_listen_address(const mempool_pool* pool) {
  return pool == nullptr || pool->agent == nullptr ? nullptr : pool->listen.c_str();
}

mempool_status mempool_drain(mempool_pool* pool, uint64_t timeout_ms) {
  return run([&]() -> Status {
    MEMPOOL_ASSIGN_OR_RETURN(Agent* const agent, embedded(pool));
    return agent->drain(bounded(timeout_ms));
  });
}

mempool_status mempool_metrics(mempool_pool* pool, char** metrics) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(metrics, "the place for the text"));
    MEMPOOL_ASSIGN_OR_RETURN(Agent* const agent, embedded(pool));
    const std::string made = agent->metrics();
    auto copy = std::make_unique<char[]>(made.size() + 1);
    std::memcpy(copy.get(), made.c_str(), made.size() + 1);
    *metrics = copy.release();
    return {};
  });
}

void mempool_free_text(char* text) {
  delete[] text;
}

mempool_status mempool_name_content(mempool_pool* pool, const mempool_content_spec* spec,
                                    mempool_content* content) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(content, "content"));
    MEMPOOL_ASSIGN_OR_RETURN(const ContentSpec shape, to_spec(spec));
    MEMPOOL_ASSIGN_OR_RETURN(const Content named, pool->pool->content(shape));
    *content = std::bit_cast<mempool_content>(named);
    return {};
  });
}

// ---- blocks ----------------------------------------------------------------------------------

mempool_status mempool_get_layout(mempool_pool* pool, uint32_t shard, mempool_layout* layout) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(layout, "layout"));
    MEMPOOL_RETURN_IF_ERROR(check_size(layout->size, "layout"));
    MEMPOOL_RETURN_IF_ERROR(check_shard(*pool->pool, shard));
    const BlockLayout& from = pool->pool->layout(0, shard);
    mempool_layout to{};
    to.layers = from.layers;
    to.parts = from.parts;
    to.heads = from.heads;
    to.tokens = from.tokens;
    to.first_layer = from.first_layer;
    to.first_head = from.first_head;
    to.order = from.order == TokenOrder::kTokenHead ? MEMPOOL_TOKEN_HEAD : MEMPOOL_HEAD_TOKEN;
    to.shards = pool->pool->shards();
    to.replicated = from.replicated ? 1 : 0;
    to.vector_bytes = from.vector_bytes;
    to.piece_bytes = from.piece_bytes;
    to.block_bytes = from.block_bytes;
    to.block_stride = from.block_stride;
    to.layer_stride = from.layer_stride;
    to.part_stride = from.part_stride;
    put(to, layout);
    return {};
  });
}

mempool_status mempool_alloc(mempool_pool* pool, size_t count, uint32_t medium,
                             mempool_block* blocks) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, count, "blocks"));
    MEMPOOL_ASSIGN_OR_RETURN(const Medium where, to_medium(medium));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list, pool->pool->alloc(count, where));
    put_blocks(list, blocks);
    return {};
  });
}

mempool_status mempool_alloc_at(mempool_pool* pool, size_t count, uint32_t medium,
                                const char* instance, uint64_t deadline_ms, mempool_block* blocks) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(instance, "the peer's name"));
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, count, "blocks"));
    MEMPOOL_ASSIGN_OR_RETURN(const Medium where, to_medium(medium));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list,
                             pool->pool->alloc(count, where, instance, bounded(deadline_ms)));
    put_blocks(list, blocks);
    return {};
  });
}

mempool_status mempool_free(mempool_pool* pool, const mempool_block* blocks, size_t count) {
  return about_blocks(pool, blocks, count, &Pool::free);
}

mempool_status mempool_pin(mempool_pool* pool, const mempool_block* blocks, size_t count) {
  return about_blocks(pool, blocks, count, &Pool::pin);
}

mempool_status mempool_unpin(mempool_pool* pool, const mempool_block* blocks, size_t count) {
  return about_blocks(pool, blocks, count, &Pool::unpin);
}

mempool_status mempool_piece(mempool_pool* pool, const mempool_block* block, uint32_t layer,
                             uint32_t part, uint32_t shard, void** piece) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(block, "block"));
    MEMPOOL_RETURN_IF_ERROR(need(piece, "the place for the piece"));
    MEMPOOL_ASSIGN_OR_RETURN(
        const std::span<std::byte> bytes,
        pool->pool->piece(std::bit_cast<BlockAddress>(*block), layer, part, shard));
    *piece = bytes.data();
    return {};
  });
}

mempool_status mempool_read(mempool_pool* pool, const mempool_block* block, void* out,
                            size_t bytes) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(block, "block"));
    MEMPOOL_RETURN_IF_ERROR(need(out, "out"));
    return pool->pool->read(std::bit_cast<BlockAddress>(*block),
                            {static_cast<std::byte*>(out), bytes});
  });
}

// ---- memory of the engine's own --------------------------------------------------------------

mempool_status mempool_adopt(mempool_pool* pool, const char* name,
                             const mempool_adopt_options* options) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(name, "name"));
    MEMPOOL_ASSIGN_OR_RETURN(const AdoptOptions adopted, to_adopt_options(options));
    return pool->pool->adopt(name, adopted);
  });
}

mempool_status mempool_claim(mempool_pool* pool, const char* name, const uint32_t* numbers,
                             size_t count, mempool_block* blocks) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(name, "name"));
    MEMPOOL_RETURN_IF_ERROR(need_list(numbers, count, "numbers"));
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, count, "blocks"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list,
                             pool->pool->claim(name, {numbers, count}));
    put_blocks(list, blocks);
    return {};
  });
}

mempool_status mempool_withdraw(mempool_pool* pool, const char* name, uint64_t timeout_ms) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need(name, "name"));
    return pool->pool->withdraw(name, bounded(timeout_ms));
  });
}

// ---- index -----------------------------------------------------------------------------------

mempool_status mempool_insert(mempool_pool* pool, const mempool_prompt* prompt,
                              const mempool_block* blocks, size_t count,
                              mempool_inserted* inserted) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const Prompt what, to_prompt(prompt));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list, to_blocks(blocks, count));
    return insert_and_tell(inserted, [&] { return pool->pool->insert(what, list); });
  });
}

mempool_status mempool_match(mempool_pool* pool, const mempool_prompt* prompt,
                             mempool_block* blocks, size_t capacity, size_t* count) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, capacity, "blocks"));
    MEMPOOL_RETURN_IF_ERROR(need(count, "count"));
    MEMPOOL_ASSIGN_OR_RETURN(const Prompt what, to_prompt(prompt));
    const MatchResult found = pool->pool->match(what);
    const Status fits = put_blocks(found.blocks, blocks, capacity, count);
    if (fits.ok()) return {};
    MEMPOOL_RETURN_IF_ERROR(pool->pool->unpin(found.blocks));
    return fits;
  });
}

mempool_status mempool_erase(mempool_pool* pool, const mempool_prompt* prompt, size_t* erased) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const Prompt what, to_prompt(prompt));
    const size_t gone = pool->pool->erase(what);
    if (erased != nullptr) *erased = gone;
    return {};
  });
}

mempool_status mempool_insert_keys(mempool_pool* pool, const mempool_key* keys,
                                   const mempool_block* blocks, size_t count,
                                   mempool_inserted* inserted) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::string_view> names, to_keys(keys, count));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> list, to_blocks(blocks, count));
    return insert_and_tell(inserted, [&] { return pool->pool->insert_keys(names, list); });
  });
}

mempool_status mempool_match_keys(mempool_pool* pool, const mempool_key* keys, size_t count,
                                  mempool_block* blocks, size_t* found) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_RETURN_IF_ERROR(need_list(blocks, count, "blocks"));
    MEMPOOL_RETURN_IF_ERROR(need(found, "found"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::string_view> names, to_keys(keys, count));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> held, pool->pool->match_keys(names));
    return put_blocks(held, blocks, count, found);
  });
}

mempool_status mempool_erase_keys(mempool_pool* pool, const mempool_key* keys, size_t count,
                                  size_t* erased) {
  return run([&]() -> Status {
    MEMPOOL_RETURN_IF_ERROR(need(pool, "pool"));
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::string_view> names, to_keys(keys, count));
    MEMPOOL_ASSIGN_OR_RETURN(const size_t gone, pool->pool->erase_keys(names));
    if (erased != nullptr) *erased = gone;
    return {};
  });
}
