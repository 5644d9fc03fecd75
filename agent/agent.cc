// SPDX-License-Identifier: Apache-2.0
// Owns the public calls: each checks its input, takes the short lock, and asks pool, index or
// machine. Hashing happens before the lock.
#include "mempool/agent.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "core/check.h"
#include "core/checksum.h"
#include "core/log.h"
#include "core/random.h"

namespace mempool {
namespace {

std::string_view dimension_that_differs(const ContentSpec& left, const ContentSpec& right) {
  if (left.layers != right.layers) return "layers";
  if (left.kv_heads != right.kv_heads) return "kv_heads";
  if (left.head_size != right.head_size) return "head_size";
  if (left.mla_rank != right.mla_rank) return "mla_rank";
  if (left.element != right.element) return "element";
  if (left.tokens_per_block != right.tokens_per_block) return "tokens_per_block";
  return "";
}

/// Copy a block's pieces out, shard by shard. Tells whether the copy has the sum that was sealed.
bool copy_out(std::span<const BlockView> shards, std::optional<uint64_t> sealed, std::byte* out) {
  std::vector<BlockLayout> packed;  // of the copy: pieces in order, nothing between them
  packed.reserve(shards.size());
  std::vector<BlockView> copies;
  for (const BlockView& shard : shards) {
    BlockLayout& layout = packed.emplace_back(*shard.layout);
    layout.part_stride = layout.piece_bytes;
    layout.layer_stride = layout.parts * layout.piece_bytes;
    copies.push_back({out, 0, &layout});
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      for (uint32_t part = 0; part < layout.parts; ++part) {
        out = std::copy_n(shard.piece(layer, part), layout.piece_bytes, out);
      }
    }
  }
  return !sealed || block_checksum(copies) == *sealed;
}

}  // namespace

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::start(const AgentOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  MEMPOOL_RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

Result<Content> Agent::content(const ContentSpec& spec) const {
  const std::string_view differs = dimension_that_differs(spec, impl_->options_.content);
  if (!differs.empty()) {
    return invalid_argument(fmt::format(
        "the content's {} is not the pool's; a content of another shape needs a pool of its own",
        differs));
  }
  MEMPOOL_ASSIGN_OR_RETURN(const Content content, make_content(spec));
  MEMPOOL_RETURN_IF_ERROR(impl_->check_content(content));
  return content;
}

// ---- blocks ----------------------------------------------------------------------------------

Result<std::vector<BlockAddress>> Agent::alloc(size_t count, Medium medium) {
  std::vector<BlockAddress> blocks;
  BlockPool& pool = *impl_->pool_;
  if (count <= pool.blocks()) blocks.reserve(count);  // more is refused below
  const std::lock_guard lock(impl_->mutex_);
  if (medium != pool.medium()) {
    return unsupported(fmt::format("this agent has no blocks in {} memory; it has {}",
                                   to_string(medium), to_string(pool.medium())));
  }
  MEMPOOL_RETURN_IF_ERROR(impl_->take_blocks(count, blocks));
  return blocks;
}

Status Agent::free(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->noted(impl_->pool_->free(kCallerSession, blocks));
}

Status Agent::pin(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->noted(impl_->pool_->pin(kCallerSession, blocks));
}

Status Agent::unpin(std::span<const BlockAddress> blocks) {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->noted(impl_->pool_->unpin(kCallerSession, blocks));
}

Result<std::span<std::byte>> Agent::piece(const BlockAddress& block, uint32_t layer, uint32_t part,
                                          uint32_t shard) const {
  const std::lock_guard lock(impl_->mutex_);
  MEMPOOL_RETURN_IF_ERROR(impl_->noted(impl_->pool_->check(block)));
  const BlockLayout& layout = impl_->pool_->layouts().front();
  if (layer >= layout.layers || part >= layout.parts || shard >= shards()) {
    return invalid_argument(
        fmt::format("no piece (layer {}, part {}, shard {}); a block has {} layers of {} parts in "
                    "{} shards",
                    layer, part, shard, layout.layers, layout.parts, shards()));
  }
  const BlockView view = impl_->pool_->view(block.index(), shard);
  return std::span(view.piece(layer, part), view.layout->piece_bytes);
}

const BlockLayout& Agent::layout(size_t segment, uint32_t shard) const {
  const std::span<const PoolSegment> segments = impl_->pool_->segments();
  return segments[segments.size() / shards() * shard + segment].layout;
}

uint32_t Agent::shards() const {
  return impl_->pool_->shards();
}

Status Agent::read(const BlockAddress& block, std::span<std::byte> out) {
  std::optional<uint64_t> sealed;
  const BlockAddress list[] = {block};
  {
    const std::lock_guard lock(impl_->mutex_);
    MEMPOOL_RETURN_IF_ERROR(impl_->noted(impl_->pool_->check(block)));
    const BlockState state = impl_->pool_->state(block.index());
    if (state == BlockState::kWriting) {
      return invalid_argument(
          fmt::format("block {} is not sealed; its filler reads it by piece()", to_string(block)));
    }
    MEMPOOL_RETURN_IF_ERROR(impl_->pool_->pin(kAgentSession, list));
    // A private block may be a tail that has filled since; its sum is of fewer tokens then.
    if (state == BlockState::kPublished && impl_->verify_ != Verify::kOff) {
      sealed = impl_->pool_->checksum(block.index());
    }
  }
  Status status;
  if (out.size() != impl_->pool_->block_bytes()) {
    status = invalid_argument(fmt::format("a block has {} bytes, the buffer {}",
                                          impl_->pool_->block_bytes(), out.size()));
  } else if (!copy_out(impl_->pool_->views(block.index()), sealed, out.data())) {
    status = corruption(fmt::format(
        "block {} does not have the bytes that were sealed; it is set aside", to_string(block)));
  }
  const std::lock_guard lock(impl_->mutex_);
  if (status.code() == StatusCode::kCorruption) {
    impl_->metrics_.checksum_failures.with().add();
    set_corrupt_aside(*impl_->pool_, *impl_->index_, block);
  }
  const Status unpinned = impl_->pool_->unpin(kAgentSession, list);
  MEMPOOL_CHECK(unpinned.ok());
  return status;
}

// ---- index -----------------------------------------------------------------------------------

Result<InsertResult> Agent::insert(const Prompt& prompt, std::span<const BlockAddress> blocks) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<Seal> seals, impl_->seals_of(blocks));
  const std::lock_guard lock(impl_->mutex_);
  MEMPOOL_RETURN_IF_ERROR(impl_->check_content(prompt.content));
  Result<InsertOutcome> outcome = impl_->index_->insert(kCallerSession, prompt, blocks, seals);
  return impl_->insert_result(std::move(outcome), blocks);
}

MatchResult Agent::match(const Prompt& prompt) {
  MatchResult result;
  result.blocks.reserve(prompt.tokens.size() / impl_->options_.content.tokens_per_block);
  {
    const std::lock_guard lock(impl_->mutex_);
    result.tokens = impl_->index_->match(kCallerSession, prompt, result.blocks);
  }
  impl_->match_hits_->add(result.tokens);
  impl_->match_misses_->add(prompt.tokens.size() - result.tokens);
  return result;
}

size_t Agent::erase(const Prompt& prompt) {
  const std::lock_guard lock(impl_->mutex_);
  return impl_->index_->erase(prompt);
}

// ---- transfers -------------------------------------------------------------------------------

Result<Transfer> Agent::transfer_with_insert(const std::string& target, const Prompt& prompt,
                                             std::span<const BlockAddress> blocks,
                                             const TransferOptions& options) {
  const size_t block_tokens = impl_->options_.content.tokens_per_block;
  const size_t needed = (prompt.tokens.size() + block_tokens - 1) / block_tokens;
  if (prompt.tokens.empty() || blocks.size() != needed) {
    return invalid_argument(fmt::format("{} tokens need {} blocks of {} tokens, the list has {}",
                                        prompt.tokens.size(), needed, block_tokens, blocks.size()));
  }
  if (prompt.tokens.size() > kOfferTokensMax || needed > kOfferBlocksMax ||
      options.user_data.size() > kUserDataBytesMax) {
    return invalid_argument(
        fmt::format("at most {} tokens, {} blocks and {} bytes of user data a transfer",
                    kOfferTokensMax, kOfferBlocksMax, kUserDataBytesMax));
  }
  if (options.mode == TransferMode::kByLayer && !options.ready.reached()) {
    return invalid_argument("by layer, each send_layers() has its own fence; leave `ready` out");
  }
  const bool by_layer = options.mode == TransferMode::kByLayer || !options.ready.reached();
  TransferRequest request;
  request.by_layer = by_layer;
  if (!by_layer) {
    MEMPOOL_ASSIGN_OR_RETURN(request.sums, impl_->sums_of(blocks, true));
  }
  request.content = prompt.content;
  request.tokens.assign(prompt.tokens.begin(), prompt.tokens.end());
  request.blocks.assign(blocks.begin(), blocks.end());
  request.medium = options.medium;
  request.request_id = options.request_id;
  request.user_data = options.user_data;
  request.trace = options.trace;
  const TimePoint now = impl_->now();
  request.deadline = impl_->deadline_of(options, now);
  auto state = std::make_shared<Transfer::State>();
  state->owner = impl_.get();
  state->gate = impl_->visitors_;
  state->by_layer = options.mode == TransferMode::kByLayer;
  state->on_done = options.on_done;
  state->source_blocks = request.blocks;
  {
    const std::lock_guard lock(impl_->mutex_);
    MEMPOOL_RETURN_IF_ERROR(impl_->check_content(prompt.content));
    MEMPOOL_RETURN_IF_ERROR(impl_->check_peer(target));
    if (by_layer) impl_->note_published(*state);
    Result<TransferId> id = impl_->source_->start(target, std::move(request), now);
    if (!id.ok()) return impl_->noted(id.status());
    state->id = *id;
    impl_->calls_[*id] = state;
  }
  impl_->request_pump();
  if (by_layer && !state->by_layer) {  // by request, when its fence is reached
    // Where the call has ended by now, wait() tells how.
    (void)state->send_layers({layout().first_layer, layout().layers}, options.ready);
    (void)state->commit();
  }
  return Transfer(std::move(state));
}

Result<Arrival> Agent::receive(std::chrono::milliseconds timeout) {
  const Visit visit(*impl_->visitors_);  // the agent waits until nobody is in here any more
  if (!visit) return cancelled("the agent stops");
  Arrival arrival;
  {
    std::unique_lock lock(impl_->arrival_mutex_);
    const bool came = impl_->arrived_.wait_for(lock, std::min(timeout, kWaitMax), [this] {
      return !impl_->arrivals_.empty() || impl_->stopped_;
    });
    if (impl_->stopped_) return cancelled("the agent stops");
    if (!came) return deadline_exceeded(fmt::format("nothing arrived in {} ms", timeout.count()));
    arrival = std::move(impl_->arrivals_.front());
    impl_->arrivals_.pop_front();
  }
  const std::lock_guard lock(impl_->mutex_);
  impl_->target_->on_received();
  return arrival;
}

void Agent::add_peer(const std::string& name, const std::string& address) {
  const std::lock_guard lock(impl_->mutex_);
  impl_->peers_[name] = address;
}

AgentStatus Agent::status() const {
  return impl_->status();
}

Status Agent::drain(std::chrono::milliseconds timeout) {
  return impl_->drain(timeout);
}

std::string Agent::metrics() const {
  return impl_->metrics_text();
}

}  // namespace mempool
