// SPDX-License-Identifier: Apache-2.0
// Owns the making and ending of an agent, and its look inside for operators.
#include "agent/agent_impl.h"

#include <algorithm>
#include <future>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_config.h"
#include "agent/block_copy.h"
#include "agent/status_json.h"
#include "agent/tenant_rules.h"
#include "agent/told_segments.h"
#include "core/auth.h"
#include "core/check.h"
#include "core/descriptor_room.h"
#include "core/listen_socket.h"
#include "core/log.h"
#include "core/random.h"

namespace mempool {
namespace {

// Longer is cut to this: a duration near its type's end would wrap.
constexpr std::chrono::milliseconds kTtlMost = std::chrono::hours(24 * 366);
constexpr unsigned kUnavailablePage = 503;

/// Room for as many blocks again by default, and for some even where the pool is small.
uint32_t max_blocks(const AgentOptions& options) {
  constexpr uint64_t kMoreAtLeast = 16384;
  if (options.max_blocks != 0) return options.max_blocks;
  const auto& counts = options.segment_blocks;
  const uint64_t blocks = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  const uint64_t wanted = blocks + std::max(blocks, kMoreAtLeast);
  return static_cast<uint32_t>(std::min(wanted, uint64_t{BlockAddress::kIndexMax} + 1));
}

/// The memory of the pool's own that came off worst, which says why.
const SegmentMemory& smallest_pages(const BlockPool& pool) {
  const std::span<const PoolSegment* const> segments = pool.segments().all();
  return (*std::ranges::min_element(segments, {},
                                    [](const PoolSegment* segment) {
                                      return segment->adopted ? UINT64_MAX
                                                              : segment->memory.page_bytes;
                                    }))
      ->memory;
}

}  // namespace

Agent::Impl::Impl(const AgentOptions& options)
    : options_(options),
      incarnation_(options.incarnation != 0 ? options.incarnation : random_word()),
      clock_(system_clock()),
      peers_(options.peers),
      liveness_(options.heartbeat, options.peer_timeout) {
  match_hits_ = &metrics_.match_tokens.with({"hit"});
  match_misses_ = &metrics_.match_tokens.with({"miss"});
}

void Agent::Impl::stop() {
  {
    const std::lock_guard lock(idle_mutex_);
    stopped_ = true;
  }
  arrivals_.stop(cancelled("the agent stops"));
  idle_changed_.notify_all();
  loop_.post([this] {
    give_up_closing();
    cancel_calls();
  });
}

void Agent::Impl::cancel_calls() {
  if (!serving_) return;
  {
    const std::lock_guard lock(mutex_);
    source_->cancel_all(clock_.now());
  }
  pump();  // tells the targets; what is still open there ends with the session
}

Agent::Impl::~Impl() {
  stop();
  visitors_->close_and_wait();
  loop_.stop_and_join([this] { cancel_calls(); });
  for (auto& [id, call] : std::exchange(calls_, {})) call->end(cancelled("the agent stops"), {});
  if (control_ != nullptr) control_->shutdown();
}

Status Agent::Impl::start() {
  MEMPOOL_RETURN_IF_ERROR(check_options());
  MEMPOOL_RETURN_IF_ERROR(open_admin());
  loop_.start();                         // from now on probes have an answer
  MEMPOOL_RETURN_IF_ERROR(open_pool());  // takes long
  std::promise<Status> served;
  loop_.post([&] { served.set_value(serve()); });
  return served.get_future().get();
}

Status Agent::Impl::serve() {
  MEMPOOL_RETURN_IF_ERROR(open_transports());
  mover_ = std::make_unique<DataMover>(
      clock_, plan_segments(*pool_),
      [this](TransferId transfer, const Status& status, const DataReport& report) {
        on_data_done(transfer, status, report);
      });
  control_ = std::make_unique<ControlPlane>(
      loop_.io(),
      ControlPlane::Options{options_.name, incarnation_, options_.token, content_.model}, *this);
  MEMPOOL_RETURN_IF_ERROR(control_->listen(options_.listen));
  MEMPOOL_RETURN_IF_ERROR(open_attach());
  serving_ = true;
  log().info("agent '{}' listens on {}, {} blocks of {} bytes in {} shards", options_.name,
             control_->address(), pool_->blocks(), pool_->block_bytes(), pool_->shards());
  return {};
}

Status Agent::Impl::check_options() const {
  MEMPOOL_RETURN_IF_ERROR(check_name(options_.name));
  const auto zero = std::chrono::milliseconds(0);
  if (options_.heartbeat <= zero || options_.retransmit <= zero || options_.fence_timeout <= zero ||
      options_.default_deadline <= zero) {
    return invalid_argument(
        "heartbeat, retransmit, fence timeout and default deadline must be longer than 0 ms");
  }
  if (options_.max_connections == 0) {
    return invalid_argument("max_connections = 0: a source needs at least one to send anything");
  }
  if (options_.peer_timeout < 2 * options_.heartbeat) {
    return invalid_argument(fmt::format("a peer timeout of {} ms needs a heartbeat of at most half",
                                        options_.peer_timeout.count()));
  }
  const Placement& placement = options_.placement;
  if (placement.first_layer > 0 ||
      (placement.layers != 0 && placement.layers != options_.content.layers)) {
    return unsupported("an agent holds all layers of its model, for now");
  }
  const uint64_t blocks =
      std::accumulate(options_.segment_blocks.begin(), options_.segment_blocks.end(), uint64_t{0});
  if (options_.max_blocks != 0 && options_.max_blocks < blocks) {
    return invalid_argument(
        fmt::format("max_blocks is {}, less than the {} of the pool", options_.max_blocks, blocks));
  }
  if (options_.transports.size() > kTransportsMax) {
    return invalid_argument(fmt::format("agent.transports names {}; peers are told of at most {}",
                                        options_.transports.size(), kTransportsMax));
  }
  for (const std::string& name : options_.transports) {
    MEMPOOL_RETURN_IF_ERROR(check_name(name).with_context("agent.transports"));
  }
  if (options_.segment_blocks.size() * options_.shards > kSegmentsMax) {
    return invalid_argument(fmt::format("{} segments in {} shards; peers are told of at most {}",
                                        options_.segment_blocks.size(), options_.shards,
                                        kSegmentsMax));
  }
  return check_descriptor_room(descriptors_at_start(options_))
      .with_context(
          fmt::format("{} segments in {} shards", options_.segment_blocks.size(), options_.shards));
}

Status Agent::Impl::open_pool() {
  MEMPOOL_ASSIGN_OR_RETURN(verify_, parse_verify(options_.verify));
  MEMPOOL_ASSIGN_OR_RETURN(content_, make_content(options_.content));
  if (options_.huge_pages != "auto" && options_.huge_pages != "off") {
    return invalid_argument(
        fmt::format("huge_pages = \"{}\": give \"auto\" or \"off\"", options_.huge_pages));
  }
  const HugePages huge = options_.huge_pages == "auto" ? HugePages::kWhereFree : HugePages::kNever;
  PoolOptions pool;
  pool.shape = options_.content;
  pool.placement = options_.placement;
  pool.shards = options_.shards;
  pool.segment_blocks = options_.segment_blocks;
  pool.max_blocks = max_blocks(options_);
  pool.huge_pages = huge;
  MEMPOOL_ASSIGN_OR_RETURN(pool_, BlockPool::create(pool, incarnation_));
  const SegmentMemory& memory = smallest_pages(*pool_);
  if (!memory.page_note.empty()) {
    log().info("the pool has pages of {} bytes: {}", memory.page_bytes, memory.page_note);
  }
  const auto ttl = std::min(options_.eviction_ttl, kTtlMost);
  MEMPOOL_ASSIGN_OR_RETURN(
      auto eviction, make_eviction_policy(options_.eviction, {pool_->blocks(), ttl, &clock_}));
  MEMPOOL_ASSIGN_OR_RETURN(auto admission,
                           make_admission_policy(options_.admission, pool_->blocks()));
  const auto retry_hint_ms = static_cast<uint32_t>(options_.retry_hint.count());
  MEMPOOL_ASSIGN_OR_RETURN(TenantRules tenants,
                           tenant_rules(options_.tenants, pool_->blocks(), retry_hint_ms));
  index_ = std::make_unique<LocalIndex>(*pool_, std::move(eviction), nullptr, std::move(admission),
                                        std::move(tenants));
  SourceMachine::Options source;
  source.max_open = options_.max_outbound;
  source.max_connections = options_.max_connections;
  source.retry_hint_ms = retry_hint_ms;
  source.retransmit = options_.retransmit;
  source_ = std::make_unique<SourceMachine>(source, *pool_);
  TargetMachine::Options target;
  target.model = content_.model;
  target.verify = verify_;
  target.deliver_arrivals = options_.deliver_arrivals;
  target.max_open = options_.max_inbound;
  target.retry_hint_ms = retry_hint_ms;
  target.retransmit = options_.retransmit;
  target.fence_timeout = options_.fence_timeout;
  target_ = std::make_unique<TargetMachine>(target, *pool_, *index_);
  return {};
}

Status Agent::Impl::open_admin() {
  if (options_.admin.empty()) return {};
  MEMPOOL_ASSIGN_OR_RETURN(
      admin_, AdminServer::open(loop_.io(), options_.admin, options_.token,
                                [this](std::string_view path) { return page_of(path); }));
  return {};
}

Status Agent::Impl::open_attach() {
  if (options_.engine_socket.empty()) return {};
  MEMPOOL_ASSIGN_OR_RETURN(attach_, AttachServer::open(*this, loop_, options_.engine_socket));
  return {};
}

Status Agent::Impl::noted(Status status) {
  if (status.code() == StatusCode::kStale) metrics_.stale_rejected.with().add();
  return status;
}

Status Agent::Impl::check_peer(const std::string& name) const {
  if (peers_.contains(name)) return {};
  return not_found(fmt::format("no peer is named '{}'; add it to [peers] or by add_peer()", name));
}

Status Agent::Impl::take_blocks(SessionId engine, size_t count, std::vector<BlockAddress>& out) {
  MEMPOOL_RETURN_IF_ERROR(index_->make_room(count));
  return pool_->alloc(engine, count, BlockState::kWriting, out);
}

Result<std::vector<SealedSum>> Agent::Impl::sums_of(std::span<const BlockAddress> blocks) {
  std::vector<SealedSum> sums;
  if (verify_ == Verify::kOff) return sums;
  {
    const std::lock_guard lock(mutex_);
    for (uint32_t position = 0; position < blocks.size(); ++position) {
      const BlockAddress& block = blocks[position];
      MEMPOOL_RETURN_IF_ERROR(noted(pool_->check(block)));
      const BlockState state = pool_->state(block.index());
      if (state == BlockState::kQuarantined) {
        return corruption(
            fmt::format("block {} is set aside: its bytes are not those sealed", to_string(block)));
      }
      if (state == BlockState::kReserved) {
        return invalid_argument(
            fmt::format("block {} is being filled by a peer's transfer; use it when it has arrived",
                        to_string(block)));
      }
      if (state == BlockState::kPublished) continue;  // what was sealed is what counts
      const bool sealed = pool_->checksum(block.index()).has_value();  // it may have filled since
      if (sealed || picks(verify_, block.index(), block.generation)) sums.push_back({position, 0});
    }
  }
  for (SealedSum& sum : sums) {
    const BlockAddress& block = blocks[sum.position];
    MEMPOOL_ASSIGN_OR_RETURN(sum.checksum, seal_sum(pool_->views(block.index()), block));
  }
  return sums;
}

Result<Transfer> Agent::Impl::send(std::span<const BlockAddress> blocks,
                                   const TransferOptions& options, const Start& start) {
  auto state = std::make_shared<Transfer::State>(*this, visitors_, options, blocks);
  std::vector<SealedSum> sums;
  if (!state->in_layers()) {
    MEMPOOL_ASSIGN_OR_RETURN(sums, sums_of(blocks));
  }
  MEMPOOL_RETURN_IF_ERROR(start(std::move(sums), state));
  const BlockLayout& layout = pool_->layouts().front();
  state->send_when(options.ready, {layout.first_layer, layout.layers});
  return Transfer(std::move(state));
}

// ---- what handles ask --------------------------------------------------------------------------

void Agent::Impl::cancel(TransferId transfer) {
  {
    const std::lock_guard lock(mutex_);
    source_->cancel(transfer, now());
  }
  request_pump();
}

Status Agent::Impl::hand_over(TransferId transfer, LayerRange layers) {
  const std::lock_guard lock(mutex_);
  return source_->hand_over(transfer, layers);
}

void Agent::Impl::layers_ready(TransferId transfer, LayerRange layers) {
  {
    const std::lock_guard lock(mutex_);
    source_->on_layers_ready(transfer, layers);
  }
  request_pump();
}

Status Agent::Impl::check_commit(TransferId transfer) {
  const std::lock_guard lock(mutex_);
  return source_->check_commit(transfer);
}

void Agent::Impl::note_published(Transfer::State& call) const {
  call.published.resize(call.source_blocks.size());
  for (uint32_t position = 0; position < call.source_blocks.size(); ++position) {
    const BlockAddress& block = call.source_blocks[position];
    if (!pool_->check(block).ok()) return;  // start() refuses it
    call.published[position] = pool_->state(block.index()) == BlockState::kPublished;
    if (!call.published[position] || verify_ == Verify::kOff) continue;
    const std::optional<uint64_t> sum = pool_->checksum(block.index());
    if (sum) call.stored.push_back({position, *sum});
  }
}

void Agent::Impl::commit(const Transfer::State& call) {
  const std::vector<BlockAddress>& blocks = call.source_blocks;
  {
    const std::lock_guard lock(mutex_);
    // Where the call has ended there is nothing to hash, and its blocks may be others' by now.
    if (!source_->check_commit(call.id).ok()) return;
    if (!pool_->pin(kAgentSession, blocks).ok()) {  // the machine holds them, so none is stale
      source_->give_up(call.id, corruption("a block was set aside before the commit"), now());
      return request_pump();
    }
  }
  Result<std::vector<SealedSum>> sums = sums_of(blocks);
  {
    const std::lock_guard lock(mutex_);
    const Status unpinned = pool_->unpin(kAgentSession, blocks);
    MEMPOOL_CHECK(unpinned.ok());
    if (sums.ok()) {
      source_->commit(call.id, call.with_stored(std::move(*sums)), now());
    } else {
      source_->give_up(call.id, sums.status(), now());
    }
  }
  request_pump();
}

// ---- for operators -----------------------------------------------------------------------------

std::optional<AdminServer::Page> Agent::Impl::page_of(std::string_view path) {
  const std::string text = "text/plain; charset=utf-8";
  if (path == "/healthz") return {{text, "ok\n"}};
  if (path != "/readyz" && path != "/metrics" && path != "/status") return std::nullopt;
  if (!serving_) {
    return {{text, "starting: the pool and the transports are not open yet\n", kUnavailablePage}};
  }
  if (path == "/metrics") return {{"text/plain; version=0.0.4", metrics_text()}};
  const AgentStatus now = status();
  if (path == "/status") return {{"application/json", status_json(now)}};
  if (now.ready.ok()) return {{text, "ready\n"}};
  return {{text, fmt::format("{}\n", now.ready.message()), kUnavailablePage}};
}

Status Agent::Impl::readiness(const Status& audit) const {
  if (!target_->refusing()) return audit.with_context("the audit is broken");
  return unavailable(fmt::format("draining: {} inbound and {} outbound transfers are open",
                                 target_->open(), source_->open()));
}

Status Agent::Impl::drain(std::chrono::milliseconds timeout) {
  const Visit visit(*visitors_);
  if (!visit) return cancelled("the agent stops");
  {
    const std::lock_guard lock(mutex_);
    target_->refuse_new();
    source_->refuse_new();
  }
  loop_.post([this] { give_up_shrinking(); });  // maybe nothing is open, too
  {
    std::unique_lock lock(idle_mutex_);
    const bool over = idle_changed_.wait_for(lock, std::min(timeout, kWaitMax),
                                             [this] { return idle_ || stopped_; });
    if (idle_) return {};
    if (over) return cancelled("the agent stops");
  }
  const std::lock_guard lock(mutex_);
  // A source that stands still may have heard nothing, but it holds nothing open either.
  if (target_->open() + source_->open() == 0) return {};
  return deadline_exceeded(fmt::format(
      "{} inbound and {} outbound transfers are still open after {} ms (agent.drain_timeout_ms)",
      target_->open(), source_->open(), timeout.count()));
}

void Agent::Impl::note_idle() {
  {
    const std::lock_guard lock(mutex_);
    if (!target_->refusing() || target_->open() + source_->open() > 0) return;
  }
  if (!control_->all_written()) return;  // on_written() comes back here
  // A source may see the end of a data connection before the answer that waits for it on the
  // control connection, and take the transfer for lost. So it is the sources that close.
  if (!std::exchange(hung_up_, true)) control_->hang_up();
  if (control_->hanging_up()) return;  // on_closed() comes back here
  {
    const std::lock_guard lock(idle_mutex_);
    idle_ = true;
  }
  idle_changed_.notify_all();
}

AgentStatus Agent::Impl::status() const {
  AgentStatus result;
  result.name = options_.name;
  result.incarnation = incarnation_;
  result.listen = control_->address();
  if (admin_ != nullptr) result.admin = admin_->address();
  const std::lock_guard lock(mutex_);
  result.shards = pool_->shards();
  result.block_bytes = pool_->block_bytes();
  const SegmentMemory& memory = smallest_pages(*pool_);
  result.page_bytes = memory.page_bytes;
  result.page_note = memory.page_note;
  result.total = pool_->blocks();
  for (const PoolSegment* segment : pool_->segments().of_first_shard()) {
    if (!segment->adopted) result.segments.push_back(segment->blocks);
  }
  const Result<PoolAudit> audit = pool_->audit();
  result.audit = audit.ok() ? index_->audit() : audit.status();
  result.ready = readiness(result.audit);
  for (size_t i = 0; i < kBlockStates; ++i) {
    const auto state = static_cast<BlockState>(i);
    if (state == BlockState::kAbsent) continue;
    result.blocks[std::string(to_string(state))] = pool_->count(state);
  }
  if (audit.ok()) {
    result.pins = audit->pins;
    result.quarantine.insert(audit->quarantine.begin(), audit->quarantine.end());
  }
  result.index_blocks = index_->blocks();
  result.index_nodes = index_->nodes();
  result.index_bytes = index_->memory_bytes();
  for (const TenantShare& share : index_->tenants().listed()) {
    result.tenants.push_back(
        {share.rule.name, share.published, share.awaited, share.rule.quota, share.rule.floor});
  }
  for (const auto& [id, engine] : engines_) result.engines.push_back(engine);
  for (const auto& [name, adoption] : adoptions_) {
    result.adopted.push_back(
        {name, adoption.blocks, adoption.in_place, adoption.first_block.has_value()});
  }
  for (const std::string& name : options_.transports) {
    const auto closed = closed_transports_.find(name);
    result.transports.push_back({name, closed == closed_transports_.end() ? "" : closed->second});
  }
  for (const auto& [id, session] : sessions_) {
    result.peers.push_back({session.peer.name, session.role(), session.up, session.transport,
                            session.route, session.refusals});
  }
  return result;
}

std::string Agent::Impl::metrics_text() {
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < kBlockStates; ++i) {
      const auto state = static_cast<BlockState>(i);
      if (state == BlockState::kAbsent) continue;
      metrics_.blocks.with({std::string(to_string(state))})
          .set(static_cast<int64_t>(pool_->count(state)));
    }
    for (const std::string& writer : quarantine_writers_) {
      metrics_.quarantine_blocks.with({writer}).set(0);
    }
    for (const auto& [writer, count] : pool_->counts().quarantine) {
      quarantine_writers_.insert(writer);
      metrics_.quarantine_blocks.with({writer}).set(static_cast<int64_t>(count));
    }
    for (const TenantShare& share : index_->tenants().listed()) {
      const std::string& name = share.rule.name;
      metrics_.tenant_blocks.with({name, "published"}).set(static_cast<int64_t>(share.published));
      metrics_.tenant_blocks.with({name, "awaited"}).set(static_cast<int64_t>(share.awaited));
      metrics_.tenant_limit_blocks.with({name, "quota"})
          .set(static_cast<int64_t>(share.rule.quota));
      metrics_.tenant_limit_blocks.with({name, "floor"})
          .set(static_cast<int64_t>(share.rule.floor));
    }
    const uint64_t evicted = index_->evicted();
    metrics_.evictions.with().add(evicted - std::exchange(evictions_counted_, evicted));
    metrics_.connections.with().set(static_cast<int64_t>(source_->connections()));
    const uint64_t closed = source_->closed_idle();
    metrics_.connections_closed.with().add(closed - std::exchange(closed_idle_counted_, closed));
  }
  return metrics_.text();
}

}  // namespace mempool
