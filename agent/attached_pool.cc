// SPDX-License-Identifier: Apache-2.0
// Owns what each call says to the agent, and what it does here: mapping, hashing, copying.
#include "agent/attached_pool.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "agent/block_copy.h"
#include "agent/call_checks.h"
#include "agent/copied_insert.h"
#include "agent/wire.h"
#include "core/check.h"
#include "core/unix_socket.h"

namespace mempool {
namespace {

constexpr std::chrono::milliseconds kEventsTick{500};
constexpr std::chrono::milliseconds kWithdrawPause{5};
constexpr std::chrono::seconds kOverdueAfter{2};  // more than the agent's own slack

Status agent_gone(const Status& why) {
  return unavailable(fmt::format("the agent has gone ({}); attach anew", why.message()));
}

Result<AttachFrame> read_frame(AttachStream& stream) {
  for (;;) {
    MEMPOOL_ASSIGN_OR_RETURN(std::optional<AttachFrame> frame, stream.next());
    if (frame) return std::move(*frame);
    MEMPOOL_ASSIGN_OR_RETURN(const bool more, stream.receive());
    if (!more) return unavailable("no answer in time");
  }
}

Status send_all(AttachStream& stream) {
  MEMPOOL_ASSIGN_OR_RETURN(const bool sent, stream.flush());
  if (sent) return {};
  return unavailable("it takes no calls");
}

void set_timeout(int socket, std::chrono::milliseconds timeout) {
  const timeval wait{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
}

}  // namespace

Result<std::unique_ptr<Pool>> attach(const AttachOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(std::unique_ptr<AttachedPool> pool, AttachedPool::open(options));
  return std::unique_ptr<Pool>(std::move(pool));
}

// ---- attaching -------------------------------------------------------------------------------

Result<std::unique_ptr<AttachedPool>> AttachedPool::open(const AttachOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor socket, dial_unix(options.path));
  MEMPOOL_ASSIGN_OR_RETURN(const SocketPeer agent, peer_of(socket.number()));
  if (agent.user != geteuid() && agent.user != 0) {
    return permission_denied(fmt::format("at {} listens user {}, not this process's {}",
                                         options.path, agent.user, geteuid()));
  }
  set_timeout(socket.number(), std::max(options.timeout, std::chrono::milliseconds(1)));
  AttachStream stream(std::move(socket));
  stream.queue(AttachHello{kAttachVersion, options.shard, options.shards, options.placement});
  MEMPOOL_RETURN_IF_ERROR(send_all(stream));
  Result<AttachFrame> frame = read_frame(stream);
  if (!frame.ok()) return frame.status().with_context("attach to " + options.path);
  auto* welcome = std::get_if<AttachWelcome>(&*frame);
  if (welcome == nullptr) return corruption("attach frame: no welcome");
  MEMPOOL_RETURN_IF_ERROR(welcome->status);
  std::vector<Descriptor> descriptors = stream.take_descriptors();
  std::unique_ptr<AttachedPool> pool(
      new AttachedPool(std::move(stream), std::move(*welcome), options.shard));
  pool->tell({.operation = AttachOperation::kMap});
  MEMPOOL_RETURN_IF_ERROR(pool->map(std::move(descriptors)));
  pool->listener_ = std::thread([pool = pool.get()] { pool->hear(); });
  return pool;
}

Status AttachedPool::map(std::vector<Descriptor> descriptors) {
  if (descriptors.size() != 2 + welcome_.segments.size() || welcome_.segments.empty()) {
    return corruption("attach frame: a welcome without its memory");
  }
  events_ = std::make_unique<AttachStream>(std::move(descriptors[0]));
  MEMPOOL_ASSIGN_OR_RETURN(
      MemoryMapping generations,
      MemoryMapping::map(descriptors[1], (uint64_t{welcome_.max_blocks} + 1) * sizeof(uint64_t),
                         Access::kRead));
  generations_ = std::make_unique<MemoryMapping>(std::move(generations));
  set_timeout(events_->descriptor(), kEventsTick);
  return segments_.map(welcome_, std::span(descriptors).subspan(2));
}

Status AttachedPool::refresh() const {
  const auto* words = reinterpret_cast<const std::atomic<uint64_t>*>(generations_->data());
  const std::atomic<uint64_t>& version = words[welcome_.max_blocks];
  if (version.load(std::memory_order_acquire) == segments_.version()) return {};
  const std::lock_guard lock(segments_mutex_);
  std::vector<Descriptor> descriptors;
  MEMPOOL_ASSIGN_OR_RETURN(AttachFrame frame,
                           exchange({.operation = AttachOperation::kSegments}, descriptors));
  const auto* now = std::get_if<AttachWelcome>(&frame);
  if (now == nullptr) return corruption("attach frame: no segments");
  return segments_.map(*now, descriptors);
}

AttachedPool::~AttachedPool() {
  if (!made_in_.here()) {  // a fork: the thread, the mapping and the attachment are its parent's
    if (listener_.joinable()) listener_.detach();
    return;
  }
  stop();
  if (listener_.joinable()) {
    shutdown(events_->descriptor(), SHUT_RDWR);
    listener_.join();
  }
  segments_.unmap();
  generations_.reset();
  tell({.operation = AttachOperation::kDetach});
}

void AttachedPool::stop() {
  if (!made_in_.here()) return;
  const Status detaches = cancelled("the engine detaches");
  arrivals_.stop(detaches);
  visitors_->close_and_wait();  // handles ask nothing any more
  end_all(detaches);
}

// ---- asking ----------------------------------------------------------------------------------

Result<AttachFrame> AttachedPool::exchange(const AttachCall& call,
                                           std::vector<Descriptor>& descriptors) const {
  MEMPOOL_RETURN_IF_ERROR(made_in_.check());
  const std::lock_guard lock(mutex_);
  MEMPOOL_RETURN_IF_ERROR(gone_);
  calls_.queue(call, std::exchange(descriptors, {}));
  const Status sent = send_all(calls_);
  Result<AttachFrame> frame = sent.ok() ? read_frame(calls_) : sent;
  descriptors = calls_.take_descriptors();
  if (!frame.ok()) gone_ = agent_gone(frame.status());
  return gone_.ok() ? std::move(frame) : gone_;
}

Result<AttachAnswer> AttachedPool::ask(const AttachCall& call,
                                       std::vector<Descriptor> descriptors) {
  MEMPOOL_ASSIGN_OR_RETURN(AttachFrame frame, exchange(call, descriptors));
  auto* const answer = std::get_if<AttachAnswer>(&frame);
  if (answer == nullptr) {
    const std::lock_guard lock(mutex_);
    gone_ = agent_gone(corruption("it gave no answer"));
    return gone_;
  }
  MEMPOOL_RETURN_IF_ERROR(answer->status);
  return std::move(*answer);
}

void AttachedPool::tell(const AttachCall& call) {
  if (!made_in_.here()) return;
  const std::lock_guard lock(mutex_);
  if (!gone_.ok()) return;
  calls_.queue(call);
  if (const Status sent = send_all(calls_); !sent.ok()) gone_ = agent_gone(sent);
}

Status AttachedPool::ask_about(AttachOperation operation, std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(check_lists(0, blocks.size()));
  return ask({.operation = operation, .blocks = {blocks.begin(), blocks.end()}}).status();
}

// ---- blocks ----------------------------------------------------------------------------------

Result<Content> AttachedPool::content(const ContentSpec& spec) const {
  return name_content(spec, welcome_.shape, welcome_.model);
}

Result<std::vector<BlockAddress>> AttachedPool::alloc(size_t count, Medium medium) {
  MEMPOOL_RETURN_IF_ERROR(check_lists(0, count));
  MEMPOOL_ASSIGN_OR_RETURN(
      AttachAnswer answer,
      ask({.operation = AttachOperation::kAlloc, .count = count, .medium = medium}));
  return std::move(answer.blocks);
}

Result<std::vector<BlockAddress>> AttachedPool::alloc(size_t count, Medium medium,
                                                      const std::string& instance,
                                                      std::chrono::milliseconds deadline) {
  MEMPOOL_RETURN_IF_ERROR(check_reserve(count));
  const TransferOptions options{.deadline = deadline, .medium = medium};
  auto state =
      std::make_shared<Transfer::State>(*this, visitors_, options, std::span<const BlockAddress>());
  AttachCall call{
      .operation = AttachOperation::kReserve, .count = count, .medium = medium, .name = instance};
  MEMPOOL_RETURN_IF_ERROR(start(call, options, state));
  return held_at_peer(Transfer(std::move(state)));
}

Status AttachedPool::free(std::span<const BlockAddress> blocks) {
  return ask_about(AttachOperation::kFree, blocks);
}

Status AttachedPool::pin(std::span<const BlockAddress> blocks) {
  return ask_about(AttachOperation::kPin, blocks);
}

Status AttachedPool::unpin(std::span<const BlockAddress> blocks) {
  return ask_about(AttachOperation::kUnpin, blocks);
}

const BlockLayout& AttachedPool::layout(size_t segment, uint32_t shard) const {
  const auto all = segments_.table().all();
  return all[all.size() / shards() * shard + segment]->layout;
}

Result<SegmentView> AttachedPool::segment(size_t segment, uint32_t shard) const {
  MEMPOOL_RETURN_IF_ERROR(made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(refresh());
  const std::lock_guard lock(segments_mutex_);
  return segment_view(segments_.table(), segment, shard, welcome_.shape.element);
}

Result<const PoolSegment*> AttachedPool::find(const BlockAddress& block) const {
  MEMPOOL_RETURN_IF_ERROR(made_in_.check());
  MEMPOOL_RETURN_IF_ERROR(refresh());
  const uint32_t index = block.index();
  if (block.incarnation != welcome_.incarnation) {
    return stale(fmt::format("block {} is of another agent, or of another life of this one",
                             to_string(block)));
  }
  const PoolSegment* const segment = segments_.table().holding(index);
  if (block.medium() != Medium::kHost || index >= welcome_.max_blocks) {
    return invalid_argument(fmt::format("block {} is not of this pool", to_string(block)));
  }
  const auto* words = reinterpret_cast<const std::atomic<uint64_t>*>(generations_->data());
  if (static_cast<uint32_t>(words[index].load(std::memory_order_acquire)) != block.generation) {
    return stale(fmt::format("block {} has been freed", to_string(block)));
  }
  if (segment == nullptr) {
    return invalid_argument(fmt::format("block {} is not of this pool", to_string(block)));
  }
  return segment;
}

std::vector<BlockView> AttachedPool::views(const BlockAddress& block) const {
  std::vector<BlockView> result;
  for (uint32_t shard = 0; shard < shards(); ++shard) {
    result.push_back(segments_.table().view(block.index(), shard));
  }
  return result;
}

Result<std::span<std::byte>> AttachedPool::piece(const BlockAddress& block, uint32_t layer,
                                                 uint32_t part, uint32_t shard) const {
  MEMPOOL_RETURN_IF_ERROR(find(block).status());
  MEMPOOL_RETURN_IF_ERROR(check_piece(layout(0, 0), shards(), layer, part, shard));
  const BlockView its = segments_.table().view(block.index(), shard);
  return std::span(its.piece(layer, part), its.layout->piece_bytes);
}

Status AttachedPool::read(const BlockAddress& block, std::span<std::byte> out) {
  MEMPOOL_RETURN_IF_ERROR(find(block).status());
  MEMPOOL_RETURN_IF_ERROR(check_buffer(out, shards() * layout(0, 0).block_bytes));
  MEMPOOL_ASSIGN_OR_RETURN(const AttachAnswer begun,
                           ask({.operation = AttachOperation::kBeginRead, .blocks = {block}}));
  const Status status = copy_block(views(block), block, begun.checksum, out);
  tell({.operation = AttachOperation::kEndRead, .blocks = {block}, .corrupt = !status.ok()});
  return status;
}

Result<std::vector<SealedSum>> AttachedPool::sums_of(std::span<const BlockAddress> blocks) const {
  std::vector<SealedSum> sums;
  for (uint32_t position = 0; position < blocks.size(); ++position) {
    const BlockAddress& block = blocks[position];
    if (!picks(welcome_.verify, block.index(), block.generation) || !find(block).ok()) continue;
    MEMPOOL_ASSIGN_OR_RETURN(const uint64_t sum, seal_sum(views(block), block));
    sums.push_back({position, sum});
  }
  return sums;
}

// ---- memory of the engine's own --------------------------------------------------------------

Status AttachedPool::adopt(const std::string& name, const AdoptOptions& options) {
  if (options.shards.size() != 1 || options.shards[0].descriptor < 0) {
    return invalid_argument(fmt::format(
        "'{}': a rank beside its agent adopts its own shard, which lies in a memfd", name));
  }
  // Pages that cannot be had are met here, and not by the agent.
  const AdoptedMemory& lent = options.shards[0];
  if (madvise(lent.data, lent.bytes, MADV_POPULATE_WRITE) != 0 && errno != EINVAL) {
    return resource_exhausted(
        fmt::format("'{}': bring in {} bytes: {}", name, lent.bytes, std::strerror(errno)));
  }
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor memory, duplicate(lent.descriptor));
  std::vector<Descriptor> descriptors;
  descriptors.push_back(std::move(memory));
  return ask({.operation = AttachOperation::kAdopt,
              .count = options.blocks,
              .name = name,
              .memory = options.shards[0],
              .in_place = options.insert_in_place},
             std::move(descriptors))
      .status();
}

Result<std::vector<BlockAddress>> AttachedPool::claim(const std::string& name,
                                                      std::span<const uint32_t> blocks) {
  MEMPOOL_RETURN_IF_ERROR(check_lists(0, blocks.size()));
  MEMPOOL_ASSIGN_OR_RETURN(AttachAnswer answer, ask({.operation = AttachOperation::kClaim,
                                                     .name = name,
                                                     .indices = {blocks.begin(), blocks.end()}}));
  return std::move(answer.blocks);
}

// By asking again and again: what ends the wait may be a call of another thread on this socket.
Status AttachedPool::withdraw(const std::string& name, std::chrono::milliseconds timeout) {
  const TimePoint deadline = system_clock().now() + std::min(timeout, kWaitMax);
  for (;;) {
    const bool late = system_clock().now() >= deadline;
    const Status status = ask({.operation = AttachOperation::kWithdraw, .name = name}).status();
    if (status.code() != StatusCode::kDeadlineExceeded || late) return status;
    if (visitors_->closed()) return cancelled("the engine detaches");
    std::this_thread::sleep_for(kWithdrawPause);
  }
}

// The agent holds what is copied; where nothing is, it need not be asked.
Result<std::vector<bool>> AttachedPool::begin_copy(std::span<const BlockAddress> blocks) {
  std::vector<bool> copied;
  for (size_t position = 0; position < blocks.size(); ++position) {
    const Result<const PoolSegment*> found = find(blocks[position]);
    if (found.status().code() == StatusCode::kInvalidArgument) continue;  // the agent's affair
    MEMPOOL_RETURN_IF_ERROR(found.status());
    if (!(*found)->adopted || (*found)->in_place) continue;
    copied.resize(blocks.size());
    copied[position] = true;
  }
  if (copied.empty()) return copied;
  MEMPOOL_RETURN_IF_ERROR(ask_about(AttachOperation::kBeginCopy, copied_blocks(blocks, copied)));
  return copied;
}

// ---- index -----------------------------------------------------------------------------------

Result<InsertResult> AttachedPool::inserted(const AttachCall& call) {
  MEMPOOL_ASSIGN_OR_RETURN(AttachAnswer answer, ask(call));
  return InsertResult{answer.count, std::move(answer.blocks), std::move(answer.duplicates)};
}

Result<InsertResult> AttachedPool::insert(const Prompt& prompt,
                                          std::span<const BlockAddress> blocks) {
  MEMPOOL_RETURN_IF_ERROR(check_lists(prompt.tokens.size(), blocks.size()));
  MEMPOOL_RETURN_IF_ERROR(check_insert(prompt, blocks.size(), layout(0, 0).tokens));
  const auto insert = [&](std::span<const BlockAddress> list) -> Result<InsertResult> {
    MEMPOOL_ASSIGN_OR_RETURN(std::vector<SealedSum> sums, sums_of(list));
    return inserted({.operation = AttachOperation::kInsert,
                     .content = prompt.content,
                     .tokens = {prompt.tokens.begin(), prompt.tokens.end()},
                     .blocks = {list.begin(), list.end()},
                     .sums = std::move(sums)});
  };
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<bool> copies, begin_copy(blocks));
  return insert_copies(*this, blocks, copies, &prompt, insert, [this](auto held) {
    tell({.operation = AttachOperation::kEndCopy, .blocks = {held.begin(), held.end()}});
  });
}

MatchResult AttachedPool::match(const Prompt& prompt) {
  if (!check_lists(prompt.tokens.size(), 0).ok()) return {};
  Result<AttachAnswer> answer = ask({.operation = AttachOperation::kMatch,
                                     .content = prompt.content,
                                     .tokens = {prompt.tokens.begin(), prompt.tokens.end()}});
  if (!answer.ok()) return {};
  return {answer->count, std::move(answer->blocks)};
}

size_t AttachedPool::erase(const Prompt& prompt) {
  if (!check_lists(prompt.tokens.size(), 0).ok()) return 0;
  const Result<AttachAnswer> answer = ask({.operation = AttachOperation::kErase,
                                           .content = prompt.content,
                                           .tokens = {prompt.tokens.begin(), prompt.tokens.end()}});
  return answer.ok() ? answer->count : 0;
}

Result<InsertResult> AttachedPool::insert_keys(std::span<const std::string_view> keys,
                                               std::span<const BlockAddress> blocks) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<ContentId> ids, hash_keys(keys));
  MEMPOOL_RETURN_IF_ERROR(check_lists(0, blocks.size()));
  const auto insert = [&](std::span<const BlockAddress> list) -> Result<InsertResult> {
    MEMPOOL_ASSIGN_OR_RETURN(std::vector<SealedSum> sums, sums_of(list));
    return inserted({.operation = AttachOperation::kInsertKeys,
                     .blocks = {list.begin(), list.end()},
                     .sums = std::move(sums),
                     .keys = ids});
  };
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<bool> copies, begin_copy(blocks));
  return insert_copies(*this, blocks, copies, nullptr, insert, [this](auto held) {
    tell({.operation = AttachOperation::kEndCopy, .blocks = {held.begin(), held.end()}});
  });
}

Result<std::vector<BlockAddress>> AttachedPool::match_keys(std::span<const std::string_view> keys) {
  MEMPOOL_ASSIGN_OR_RETURN(std::vector<ContentId> ids, hash_keys(keys));
  MEMPOOL_ASSIGN_OR_RETURN(AttachAnswer answer,
                           ask({.operation = AttachOperation::kMatchKeys, .keys = std::move(ids)}));
  return std::move(answer.blocks);
}

Result<size_t> AttachedPool::erase_keys(std::span<const std::string_view> keys) {
  MEMPOOL_ASSIGN_OR_RETURN(std::vector<ContentId> ids, hash_keys(keys));
  MEMPOOL_ASSIGN_OR_RETURN(const AttachAnswer answer,
                           ask({.operation = AttachOperation::kEraseKeys, .keys = std::move(ids)}));
  return size_t{answer.count};
}

// ---- transfers -------------------------------------------------------------------------------

Result<Transfer> AttachedPool::transfer_with_insert(const std::string& target, const Prompt& prompt,
                                                    std::span<const BlockAddress> blocks,
                                                    const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(
      check_transfer(prompt, blocks.size(), options, welcome_.shape.tokens_per_block));
  return send({.operation = AttachOperation::kTransfer,
               .content = prompt.content,
               .tokens = {prompt.tokens.begin(), prompt.tokens.end()},
               .name = target},
              blocks, options);
}

Result<Transfer> AttachedPool::transfer(const std::string& target,
                                        std::span<const BlockAddress> blocks,
                                        std::span<const BlockAddress> places,
                                        const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(check_places(blocks.size(), places, options));
  return send({.operation = AttachOperation::kTransferTo,
               .places = {places.begin(), places.end()},
               .name = target},
              blocks, options);
}

Result<Transfer> AttachedPool::send(AttachCall call, std::span<const BlockAddress> blocks,
                                    const TransferOptions& options) {
  auto state = std::make_shared<Transfer::State>(*this, visitors_, options, blocks);
  call.medium = options.medium;
  call.blocks = state->source_blocks;
  call.in_layers = state->in_layers();
  call.user_data = options.user_data;
  if (!call.in_layers) {
    MEMPOOL_ASSIGN_OR_RETURN(call.sums, sums_of(blocks));
  }
  MEMPOOL_RETURN_IF_ERROR(start(call, options, state));
  state->send_when(options.ready, {layout(0, 0).first_layer, layout(0, 0).layers});
  return Transfer(std::move(state));
}

Result<Transfer> AttachedPool::fetch(const std::string& source, const Prompt& prompt,
                                     const TransferOptions& options) {
  MEMPOOL_RETURN_IF_ERROR(check_fetch(prompt, options, welcome_.shape.tokens_per_block));
  auto state =
      std::make_shared<Transfer::State>(*this, visitors_, options, std::span<const BlockAddress>());
  AttachCall call{.operation = AttachOperation::kFetch,
                  .content = prompt.content,
                  .tokens = {prompt.tokens.begin(), prompt.tokens.end()},
                  .name = source};
  MEMPOOL_RETURN_IF_ERROR(start(call, options, state));
  return Transfer(std::move(state));
}

// The end may be heard before the answer, so the table knows the transfer first.
Status AttachedPool::start(AttachCall& call, const TransferOptions& options,
                           const std::shared_ptr<Transfer::State>& state) {
  MEMPOOL_RETURN_IF_ERROR(check_peer_words(call.name, ""));
  call.deadline_ms = static_cast<uint64_t>(std::max<int64_t>(options.deadline.count(), 0));
  call.request_id = options.request_id;
  call.trace = options.trace.substr(0, kTraceBytesMax);
  const auto wait = options.deadline.count() > 0 ? options.deadline : welcome_.default_deadline;
  const TimePoint overdue = system_clock().now() + std::min(wait, kWaitMax) + kOverdueAfter;
  {
    const std::lock_guard lock(open_mutex_);
    MEMPOOL_RETURN_IF_ERROR(ended_);
    call.ticket = state->id = ++last_ticket_;
    open_[call.ticket] = {state, overdue};
  }
  const Status started = ask(call).status();
  if (started.ok()) return {};
  const std::lock_guard lock(open_mutex_);
  if (open_.erase(call.ticket) == 0) return {};  // it has ended meanwhile, and wait() tells how
  return started;
}

Result<Arrival> AttachedPool::receive(std::chrono::milliseconds timeout) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the engine detaches");
  MEMPOOL_ASSIGN_OR_RETURN(Arrival arrival, arrivals_.pop(timeout));
  tell({.operation = AttachOperation::kReceived});
  return arrival;
}

void AttachedPool::add_peer(const std::string& name, const std::string& address) {
  if (!check_peer_words(name, address).ok()) return;  // nobody has such a name
  // An agent that has gone says so at the next call.
  (void)ask({.operation = AttachOperation::kAddPeer, .name = name, .address = address});
}

// ---- what handles ask --------------------------------------------------------------------------

void AttachedPool::cancel(TransferId transfer) {
  tell({.operation = AttachOperation::kCancel, .ticket = transfer});
}

Status AttachedPool::hand_over(TransferId transfer, LayerRange layers) {
  return ask({.operation = AttachOperation::kHandOver, .ticket = transfer, .layers = layers})
      .status();
}

void AttachedPool::layers_ready(TransferId transfer, LayerRange layers) {
  tell({.operation = AttachOperation::kLayersReady, .ticket = transfer, .layers = layers});
}

Status AttachedPool::check_commit(TransferId transfer) {
  return ask({.operation = AttachOperation::kCheckCommit, .ticket = transfer}).status();
}

void AttachedPool::commit(const Transfer::State& call) {
  Result<std::vector<SealedSum>> sums = sums_of(call.source_blocks);
  AttachCall said{.operation = AttachOperation::kCommit, .ticket = call.id};
  if (sums.ok()) said.sums = std::move(*sums);
  said.corrupt = !sums.ok();
  tell(said);
}

// ---- events ----------------------------------------------------------------------------------

void AttachedPool::hear() {
  for (;;) {
    Result<std::optional<AttachFrame>> frame = events_->next();
    if (!frame.ok()) return end_all(agent_gone(frame.status()));
    if (frame->has_value()) {
      on_event(std::move(**frame));
      continue;
    }
    const Result<bool> more = events_->receive();
    if (!more.ok()) return end_all(agent_gone(more.status()));
    if (!*more) end_overdue();
  }
}

void AttachedPool::end_overdue() {
  const TimePoint now = system_clock().now();
  std::vector<std::shared_ptr<Transfer::State>> overdue;
  {
    const std::lock_guard lock(open_mutex_);
    std::erase_if(open_, [&](const auto& item) {
      if (item.second.overdue > now) return false;
      overdue.push_back(item.second.state);
      return true;
    });
  }
  for (const auto& state : overdue) state->end(deadline_exceeded("the agent does not answer"), {});
}

void AttachedPool::on_event(AttachFrame frame) {
  if (auto* arrival = std::get_if<Arrival>(&frame)) {
    arrivals_.push(std::move(*arrival));
    return;
  }
  auto* ended = std::get_if<TransferEnded>(&frame);
  if (ended == nullptr) return;  // nothing that this version knows
  std::shared_ptr<Transfer::State> state;
  {
    const std::lock_guard lock(open_mutex_);
    const auto open = open_.extract(ended->ticket);
    if (open.empty()) return;
    state = open.mapped().state;
  }
  state->end(ended->status, std::move(ended->report));
}

void AttachedPool::end_all(const Status& why) {
  std::map<uint64_t, Open> open;
  {
    const std::lock_guard lock(open_mutex_);
    ended_ = why;
    open = std::exchange(open_, {});
  }
  for (const auto& [ticket, each] : open) each.state->end(why, {});
  arrivals_.stop(why);
}

}  // namespace mempool
