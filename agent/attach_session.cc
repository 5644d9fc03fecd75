// SPDX-License-Identifier: Apache-2.0
// Owns the life of an attached engine's session.
#include "agent/attach_session.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "agent/agent_impl.h"
#include "agent/attach_server.h"
#include "agent/copied_insert.h"
#include "core/check.h"
#include "core/log.h"

namespace mempool {
namespace {

constexpr uint32_t kFramesInTurn = 64;

/// Tell whether an operation makes something of what all ranks have written.
bool needs_all_ranks(AttachOperation operation) {
  switch (operation) {
    case AttachOperation::kAlloc:
    case AttachOperation::kInsert:
    case AttachOperation::kInsertKeys:
    case AttachOperation::kTransfer:
    case AttachOperation::kTransferTo:
    case AttachOperation::kReserve:
    case AttachOperation::kFetch:
    case AttachOperation::kHandOver:
    case AttachOperation::kCheckCommit:
    case AttachOperation::kClaim:
      return true;
    default:
      return false;
  }
}

}  // namespace

AttachSession::AttachSession(AttachServer& server, Agent::Impl& agent, EventLoop& loop,
                             SessionId id, Descriptor socket)
    : server_(server),
      agent_(agent),
      loop_(loop),
      id_(id),
      calls_(agent, id),
      link_(std::make_unique<Link>(loop, std::move(socket))) {}

// Read what is here, answer it, and wait for more. An engine that does not read its answers is not
// read either.
void AttachSession::read() {
  for (uint32_t frames = 0; state_ != State::kLeaving && !link_->waits_to_write; ++frames) {
    if (frames == kFramesInTurn) {  // everything else has its turn
      return loop_.post([self = shared_from_this()] { self->read(); });
    }
    Result<std::optional<AttachFrame>> frame = link_->stream.next();
    if (!frame.ok()) return leave(frame.status());
    if (frame->has_value()) {
      on_frame(std::move(**frame));
      continue;
    }
    const Result<bool> more = link_->stream.receive();
    if (!more.ok()) return leave(more.status());
    if (link_->stream.descriptors_waiting() > 1) {  // an engine lends one, and waits
      return leave(corruption("attach frame: descriptors that nothing asks for"));
    }
    if (*more) continue;
    link_->watch.when_readable([self = weak_from_this()] {
      if (const auto session = self.lock()) session->read();
    });
    return;
  }
}

void AttachSession::on_frame(AttachFrame frame) {
  auto* const call = std::get_if<AttachCall>(&frame);
  if (call != nullptr && state_ == State::kAttached) return handle(*call);
  const auto* hello = std::get_if<AttachHello>(&frame);
  if (hello == nullptr || state_ != State::kGreeting) {
    return leave(corruption("attach frame: out of turn"));
  }
  if (const Status greeted = greet(*hello); !greeted.ok()) refuse(greeted);
}

// ---- greeting --------------------------------------------------------------------------------

Status AttachSession::check_hello(const AttachHello& hello) const {
  if (hello.version != kAttachVersion) {
    return unsupported(
        fmt::format("the engine speaks version {} and this agent {}; install both "
                    "from one release",
                    hello.version, kAttachVersion));
  }
  if (peer_.user != geteuid() && peer_.user != 0) {
    return permission_denied(fmt::format("the engine's process is of user {}, the agent's of {}",
                                         peer_.user, geteuid()));
  }
  if (hello.shards != agent_.options_.shards || hello.shard >= hello.shards) {
    return invalid_argument(
        fmt::format("the engine is rank {} of {}; this agent's pool has {} "
                    "shards (pool.shards)",
                    hello.shard, hello.shards, agent_.options_.shards));
  }
  const Placement& own = agent_.options_.placement;
  if (hello.placement &&
      (hello.placement->form != own.form || hello.placement->order != own.order)) {
    return invalid_argument(
        "the engine expects blocks of another placement than [placement] of the agent's "
        "configuration");
  }
  MEMPOOL_RETURN_IF_ERROR(server_.broken());
  if (const AttachSession* holder = server_.holder_of(hello.shard); holder != nullptr) {
    return Status(StatusCode::kAlreadyExists,
                  fmt::format("process {} is attached as rank {}; it has to end first",
                              holder->process(), hello.shard));
  }
  return {};
}

Status AttachSession::greet(const AttachHello& hello) {
  MEMPOOL_ASSIGN_OR_RETURN(peer_, peer_of(link_->stream.descriptor()));
  MEMPOOL_RETURN_IF_ERROR(check_hello(hello));
  MEMPOOL_ASSIGN_OR_RETURN(process_, watch_process(peer_.process));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return resource_exhausted(fmt::format("make a socket: {}", std::strerror(errno)));
  }
  Descriptor own(ends[0]);
  Descriptor theirs(ends[1]);
  if (fcntl(own.number(), F_SETFL, O_NONBLOCK) != 0) {
    return internal_error(fmt::format("fcntl of a socket: {}", std::strerror(errno)));
  }
  MEMPOOL_RETURN_IF_ERROR(welcome(std::move(theirs)));
  events_ = std::make_unique<Link>(loop_, std::move(own));
  shard_ = hello.shard;
  state_ = State::kAttached;
  {
    const std::lock_guard lock(agent_.mutex_);
    agent_.engines_[id_] = {hello.shard, peer_.process, true};
  }
  watch_process_end();
  log().info("process {} is attached as rank {}", peer_.process, hello.shard);
  flush(*link_);
  return {};
}

Status AttachSession::welcome(Descriptor events) {
  std::vector<Descriptor> descriptors;
  descriptors.push_back(std::move(events));
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor generations,
                           reopen_read_only(agent_.pool_->generation_memory().descriptor()));
  descriptors.push_back(std::move(generations));
  MEMPOOL_ASSIGN_OR_RETURN(const AttachWelcome welcome, make_welcome(descriptors));
  link_->stream.queue(welcome, std::move(descriptors));
  return {};
}

Result<AttachWelcome> AttachSession::make_welcome(std::vector<Descriptor>& descriptors) const {
  const BlockPool& pool = *agent_.pool_;
  AttachWelcome welcome;
  welcome.incarnation = agent_.incarnation_;
  welcome.model = agent_.content_.model;
  welcome.verify = agent_.verify_;
  welcome.shape = agent_.options_.content;
  welcome.placement = agent_.options_.placement;
  welcome.shards = pool.shards();
  welcome.default_deadline = agent_.options_.default_deadline;
  welcome.max_blocks = pool.max_blocks();
  welcome.segments_version = pool.segments_version();
  for (const PoolSegment* segment : pool.segments().all()) {
    const SegmentMemory& memory = segment->memory;
    const BlockLayout& layout = segment->layout;
    if (memory.descriptor < 0) continue;  // the agent's own process alone can reach it
    welcome.segments.push_back({segment->first_block, segment->blocks, memory.bytes,
                                segment->region, segment->adopted, segment->in_place,
                                layout.block_stride, layout.layer_stride, layout.part_stride});
    MEMPOOL_ASSIGN_OR_RETURN(Descriptor its, duplicate(memory.descriptor));
    descriptors.push_back(std::move(its));
  }
  return welcome;
}

// The reason goes out, as far as the socket takes it now.
void AttachSession::refuse(const Status& why) {
  log().warning("an engine is refused: {}", why.to_string());
  AttachWelcome refusal;
  refusal.status = why;
  link_->stream.queue(refusal);
  flush(*link_);
  leave(why);
}

// ---- calls -----------------------------------------------------------------------------------

void AttachSession::handle(AttachCall& call) {
  if (call.operation >= kFirstUnanswered) {
    if (const Status obeyed = obey(call); !obeyed.ok()) leave(obeyed);
    return;
  }
  if (call.operation == AttachOperation::kWithdraw) return withdraw(call);
  if (call.operation == AttachOperation::kSegments) {
    std::vector<Descriptor> descriptors;
    Result<AttachWelcome> segments = make_welcome(descriptors);
    if (!segments.ok()) return leave(segments.status());
    link_->stream.queue(*segments, std::move(descriptors));
  } else {
    link_->stream.queue(answer(call));
  }
  flush(*link_);
}

AttachAnswer AttachSession::answer(AttachCall& call) {
  AttachAnswer out;
  if (needs_all_ranks(call.operation)) out.status = server_.whole();
  if (!out.status.ok()) return out;
  switch (call.operation) {
    case AttachOperation::kAlloc:
    case AttachOperation::kFree:
    case AttachOperation::kPin:
    case AttachOperation::kUnpin:
    case AttachOperation::kBeginRead:
    case AttachOperation::kBeginCopy:
      return answer_about_blocks(call);
    case AttachOperation::kTransfer:
    case AttachOperation::kTransferTo:
    case AttachOperation::kReserve:
    case AttachOperation::kFetch:
      out.status = start_transfer(call);
      return out;
    case AttachOperation::kHandOver:
    case AttachOperation::kCheckCommit:
      out.status = answer_about_transfer(call);
      return out;
    case AttachOperation::kAddPeer:
      calls_.add_peer(call.name, call.address);
      return out;
    case AttachOperation::kAdopt:
      out.status = adopt(call);
      return out;
    case AttachOperation::kClaim:
      return claim(call);
    default:
      return answer_about_index(call);
  }
}

AttachAnswer AttachSession::answer_about_blocks(const AttachCall& call) {
  AttachAnswer out;
  if (call.operation == AttachOperation::kAlloc) {
    out.status = check_lists(0, call.count);
    if (!out.status.ok()) return out;
    Result<std::vector<BlockAddress>> blocks = calls_.alloc(call.count, call.medium);
    out.status = blocks.status();
    if (blocks.ok()) out.blocks = std::move(*blocks);
  } else if (call.operation == AttachOperation::kFree) {
    out.status = calls_.free(call.blocks);
  } else if (call.operation == AttachOperation::kPin) {
    out.status = calls_.pin(call.blocks);
  } else if (call.operation == AttachOperation::kUnpin) {
    out.status = calls_.unpin(call.blocks);
  } else if (call.operation == AttachOperation::kBeginCopy) {
    const Result<std::vector<bool>> copied = calls_.begin_copy(call.blocks);
    out.status = copied.status();
    if (!copied.ok()) return out;
    const std::vector<BlockAddress> held = copied_blocks(call.blocks, *copied);
    copies_.insert(held.begin(), held.end());
  } else if (call.blocks.size() != 1) {
    out.status = invalid_argument("a read is of one block");
  } else {
    const Result<std::optional<uint64_t>> sum = calls_.begin_read(call.blocks.front());
    out.status = sum.status();
    if (!sum.ok()) return out;
    out.checksum = *sum;
    reads_.push_back(call.blocks.front());
  }
  return out;
}

AttachAnswer AttachSession::answer_about_index(const AttachCall& call) {
  AttachAnswer out;
  const Prompt prompt{call.content, call.tokens};
  if (call.operation == AttachOperation::kMatch) {
    const size_t most = kAttachBlocksMax * agent_.options_.content.tokens_per_block;
    MatchResult found =
        calls_.match({call.content, prompt.tokens.first(std::min(prompt.tokens.size(), most))});
    out.count = found.tokens;
    out.blocks = std::move(found.blocks);
  } else if (call.operation == AttachOperation::kErase) {
    out.count = calls_.erase(prompt);
  } else if (call.operation == AttachOperation::kMatchKeys) {
    out.blocks = calls_.match_keys(call.keys);
  } else if (call.operation == AttachOperation::kEraseKeys) {
    out.count = calls_.erase_keys(call.keys);
  } else {
    Result<InsertResult> inserted = call.operation == AttachOperation::kInsert
                                        ? calls_.insert(prompt, call.blocks, call.sums)
                                        : calls_.insert_keys(call.keys, call.blocks, call.sums);
    out.status = inserted.status();
    if (!inserted.ok()) return out;
    out.count = inserted->admitted;
    out.blocks = std::move(inserted->serving);
    out.duplicates = std::move(inserted->duplicates);
  }
  return out;
}

Status AttachSession::start_transfer(AttachCall& call) {
  if (call.ticket == 0 || open_.contains(call.ticket)) {
    return invalid_argument(fmt::format("ticket {} is in use", call.ticket));
  }
  TransferOptions options;
  options.mode = call.in_layers ? TransferMode::kByLayer : TransferMode::kByRequest;
  options.deadline =
      std::chrono::milliseconds(std::min<uint64_t>(call.deadline_ms, kWaitMax.count()));
  options.medium = call.medium;
  options.request_id = call.request_id;
  options.user_data = std::move(call.user_data);
  options.trace = std::move(call.trace);
  options.on_done = [self = weak_from_this(), ticket = call.ticket](const Status& how) {
    if (const auto session = self.lock()) session->on_ended(ticket, how);
  };
  auto state = std::make_shared<Transfer::State>(agent_, agent_.visitors_, options, call.blocks);
  open_[call.ticket].state = state;
  const Status started = start(call, options, state);
  if (!started.ok()) open_.erase(call.ticket);
  return started;
}

Status AttachSession::start(AttachCall& call, const TransferOptions& options,
                            const std::shared_ptr<Transfer::State>& state) {
  const Prompt prompt{call.content, call.tokens};
  switch (call.operation) {
    case AttachOperation::kFetch:
      return calls_.fetch(call.name, prompt, options, state);
    case AttachOperation::kReserve:
      return calls_.reserve(call.name, call.count, options, state);
    case AttachOperation::kTransferTo:
      return calls_.transfer(call.name, call.places, std::move(call.sums), options, state);
    default:
      return calls_.transfer_with_insert(call.name, prompt, std::move(call.sums), options, state);
  }
}

AttachSession::Open* AttachSession::find(uint64_t ticket) {
  const auto it = open_.find(ticket);
  return it == open_.end() ? nullptr : &it->second;
}

Status AttachSession::answer_about_transfer(const AttachCall& call) {
  Open* const open = find(call.ticket);
  if (open == nullptr) return unavailable("the transfer has ended; wait() tells how");
  TransferOwner& owner = open->state->owner;
  if (call.operation == AttachOperation::kCheckCommit) return owner.check_commit(open->state->id);
  MEMPOOL_RETURN_IF_ERROR(owner.hand_over(open->state->id, call.layers));
  open->awaited.push_back(call.layers);
  return {};
}

Status AttachSession::take_ready(const AttachCall& call) {
  Open* const open = find(call.ticket);
  if (open == nullptr) return {};  // it ended meanwhile
  const auto layers = std::ranges::find(open->awaited, call.layers);
  if (layers == open->awaited.end()) {
    return invalid_argument("attach frame: layers are ready that were not handed over");
  }
  open->awaited.erase(layers);
  open->state->owner.layers_ready(open->state->id, call.layers);
  return {};
}

Status AttachSession::take_commit(const AttachCall& call) {
  const Open* const open = find(call.ticket);
  if (open == nullptr) return {};  // it ended meanwhile
  const Transfer::State& state = *open->state;
  const bool outside =
      !call.sums.empty() && call.sums.back().position >= state.source_blocks.size();
  if (outside || !open->awaited.empty()) {
    return invalid_argument("attach frame: a commit before its layers, or a sum without its block");
  }
  if (call.corrupt) {
    const std::lock_guard lock(agent_.mutex_);
    agent_.source_->give_up(state.id, corruption("the ranks hold different bytes of a head"),
                            agent_.now());
    agent_.request_pump();
  } else {
    calls_.commit(state, call.sums);
  }
  return {};
}

// What has no answer. Errors: what an engine of ours does not say.
Status AttachSession::obey(const AttachCall& call) {
  switch (call.operation) {
    case AttachOperation::kMap:
      mapped_ = true;
      return {};
    case AttachOperation::kEndRead:
      if (call.blocks.size() != 1) return invalid_argument("attach frame: a read is of one block");
      if (const auto read = std::ranges::find(reads_, call.blocks.front()); read != reads_.end()) {
        reads_.erase(read);
      } else {
        return invalid_argument("attach frame: the end of a read that was not begun");
      }
      calls_.end_read(call.blocks.front(), call.corrupt);
      return {};
    case AttachOperation::kEndCopy:
      return end_copy(call);
    case AttachOperation::kLayersReady:
      return take_ready(call);
    case AttachOperation::kCommit:
      return take_commit(call);
    case AttachOperation::kCancel:
      if (const Open* open = find(call.ticket); open != nullptr) {
        open->state->owner.cancel(open->state->id);
      }
      return {};
    case AttachOperation::kReceived:
      if (unreceived_ == 0) return invalid_argument("attach frame: nothing was to be received");
      --unreceived_;
      calls_.on_received();
      return {};
    case AttachOperation::kDetach:
      mapped_ = false;
      leave(unavailable("it has detached"));
      return {};
    default:
      return invalid_argument("attach frame: an operation that this version does not know");
  }
}

// ---- events ----------------------------------------------------------------------------------

void AttachSession::on_ended(uint64_t ticket, const Status& status) {
  const auto it = open_.find(ticket);
  MEMPOOL_CHECK(it != open_.end());  // a call ends once
  if (state_ == State::kAttached) {
    TransferEnded ended{ticket, status, {}};
    {
      const std::lock_guard lock(it->second.state->mutex);
      ended.report = it->second.state->report;
    }
    events_->stream.queue(ended);
  }
  open_.erase(it);
  if (state_ == State::kAttached) {
    flush(*events_);
  } else {
    server_.settle();
  }
}

void AttachSession::deliver(const Arrival& arrival, std::span<const BlockAddress> pinned) {
  {
    const std::lock_guard lock(agent_.mutex_);
    BlockPool& pool = *agent_.pool_;
    const Status taken = pool.pin(id_, pinned);
    const Status unpinned = pool.unpin(kCallerSession, pinned);
    MEMPOOL_CHECK(taken.ok() && unpinned.ok());  // the machine has pinned them for the caller
  }
  ++unreceived_;
  events_->stream.queue(arrival);
  flush(*events_);
}

// Events of an engine that does not read pile up here: as many as its open transfers and the
// arrivals that it may hold.
void AttachSession::flush(Link& link) {
  if (link.waits_to_write) return;
  const Result<bool> sent = link.stream.flush();
  if (!sent.ok() && &link == events_.get()) return;  // its other socket tells whether it has left
  if (!sent.ok()) return leave(sent.status());
  if (*sent) return;
  link.waits_to_write = true;
  link.watch.when_writable([self = weak_from_this(), &link] {
    const auto session = self.lock();
    if (session == nullptr) return;
    link.waits_to_write = false;
    session->flush(link);
    if (&link == session->link_.get()) session->read();
  });
}

// ---- the end ---------------------------------------------------------------------------------

// Nothing more is heard of it. What it had open is taken back, but its blocks stay its own while
// its process may write to them.
void AttachSession::leave(const Status& why) {
  if (state_ == State::kLeaving) return;
  state_ = State::kLeaving;
  const std::vector<BlockAddress> copies(copies_.begin(), copies_.end());
  copies_.clear();
  calls_.end_copy(copies);  // what it was about to insert it does not insert any more
  if (shard_) {
    log().info("process {} of rank {} has left: {}", peer_.process, *shard_, why.message());
    server_.on_rank_left(*this);
    const std::lock_guard lock(agent_.mutex_);
    agent_.engines_[id_].attached = false;
  }
  loop_.post([self = shared_from_this()] {  // this call may come from inside of what goes here
    self->link_.reset();
    self->events_.reset();
    self->give_up(cancelled("its engine has left"));
    self->let_go_at_peers();
    self->server_.settle();
  });
}

void AttachSession::give_up(const Status& why) {
  {
    const std::lock_guard lock(agent_.mutex_);
    for (const auto& [ticket, open] : open_) {
      agent_.source_->give_up(open.state->id, why, agent_.now());
    }
  }
  agent_.request_pump();
}

// It cannot touch what peers hold for it, so they need not wait for its process.
void AttachSession::let_go_at_peers() {
  {
    const std::lock_guard lock(agent_.mutex_);
    agent_.source_->release_all(id_, agent_.now());
  }
  agent_.request_pump();
}

// Its end may come without an end of its sockets, which a forked child may hold.
void AttachSession::watch_process_end() {
  process_watch_ = std::make_unique<Watch>(loop_, process_.number());
  process_watch_->when_readable([self = weak_from_this()] {
    const auto session = self.lock();
    if (session == nullptr) return;
    session->mapped_ = false;
    session->leave(unavailable("its process is gone"));
    session->server_.settle();
  });
}

void AttachSession::give_back() {
  agent_.withdraw_all(id_);
  const std::lock_guard lock(agent_.mutex_);
  agent_.pool_->end_session(id_);
  for (; unreceived_ > 0; --unreceived_) agent_.target_->on_received();
  agent_.engines_.erase(id_);
  agent_.request_pump();  // what it lent is being let go of
}

}  // namespace mempool
