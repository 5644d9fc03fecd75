// SPDX-License-Identifier: Apache-2.0
// Owns the opening of a ucx endpoint, the life of a call on it, and its end.
#include "transport/ucx/ucx_endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_wire.h"
#include "transport/ucx/ucx_words.h"

namespace mempool {

UcxEndpoint::UcxEndpoint(UcxSource& source, uint64_t peer, std::shared_ptr<SetupLink> link,
                         std::chrono::milliseconds timeout, OpenHandler opened)
    : source_(source),
      peer_(peer),
      link_(std::move(link)),
      opened_(std::move(opened)),
      pending_(source.capabilities.calls_in_flight) {
  for (Pending& pending : pending_) {
    pending.endpoint = this;
    idle_.push_back(&pending);
  }
  counts_.system_calls.reset();
  link_->start(*this);
  link_->set_deadline(timeout);
}

UcxEndpoint::~UcxEndpoint() {
  close();
  std::erase(source_.endpoints, this);
  source_.ended += counts_;
}

// ---- opening ---------------------------------------------------------------------------------

Status UcxEndpoint::on_note(std::span<const std::byte> note) {
  if (worker_) return invalid_argument("a second note, where one is expected");
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::byte> address, decode_worker_note(note));
  MEMPOOL_ASSIGN_OR_RETURN(
      worker_, UcxWorker::open(source_.context, source_.loop, static_cast<UcxWorkerOwner&>(*this)));
  MEMPOOL_RETURN_IF_ERROR(dial(address));
  return greet();
}

Status UcxEndpoint::dial(std::span<const std::byte> address) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.arg = this;
  params.err_handler.cb = [](void* self, ucp_ep_h, ucs_status_t status) {
    static_cast<UcxEndpoint*>(self)->fail(status);
  };
  const UcxWords words;
  const ucs_status_t created = ucp_ep_create(worker_->handle(), &params, &endpoint_);
  if (created == UCS_OK) return {};
  endpoint_ = nullptr;
  return words.failure(created, "connect to the peer's worker");
}

// UCX connects each direction by itself and holds the first messages back meanwhile. One that goes
// over and comes back shows that both are there; and to close before is what UCX 1.13 dies of over
// tcp, at the other end.
Status UcxEndpoint::greet() {
  const auto answered = [](void* self, const void*, size_t, void*, size_t,
                           const ucp_am_recv_param_t*) {
    static_cast<UcxEndpoint*>(self)->greeted_ = true;
    return UCS_OK;
  };
  MEMPOOL_RETURN_IF_ERROR(hear_ucx(worker_->handle(), UcxMessage::kHello, answered, this));
  const UcxWords words;
  const ucs_status_t sent = send_ucx_hello(endpoint_);
  if (sent != UCS_OK) return words.failure(sent, "greet the peer's worker");
  worker_->drive();
  return {};
}

void UcxEndpoint::finish_opening(Status status) {
  link_->clear_deadline();
  const OpenHandler opened = std::exchange(opened_, nullptr);
  if (status.ok()) {
    source_.endpoints.push_back(this);
  } else {
    tear_down(status);
  }
  opened(status);  // and `this` may be gone
}

// ---- calls -----------------------------------------------------------------------------------

// A peer tells its keys again while calls are under way, and UCX reads the key of a call for as
// long as it has fragments to send: what it unpacked before stays until the last call with it has
// ended.
Status UcxEndpoint::import_key(uint32_t remote_region, std::span<const std::byte> key) {
  MEMPOOL_ASSIGN_OR_RETURN(const UcxKey parsed, decode_ucx_key(key, peer_, remote_region));
  MEMPOOL_RETURN_IF_ERROR(check_open());
  const auto known = remotes_.find(remote_region);
  if (known != remotes_.end() && std::ranges::equal(known->second.told, key)) return {};
  ucp_rkey_h fresh = nullptr;
  const UcxWords words;
  const ucs_status_t status = ucp_ep_rkey_unpack(endpoint_, parsed.key.data(), &fresh);
  if (status != UCS_OK) {
    return words.failure(status, fmt::format("key of region {}", remote_region));
  }
  remotes_[remote_region] = {
      parsed.base, parsed.bytes, {key.begin(), key.end()}, Key(fresh, &ucp_rkey_destroy)};
  return {};
}

Status UcxEndpoint::check_open() const {
  if (closed_.ok()) return {};
  return unavailable(fmt::format("the connection to peer {:x} is closed", peer_));
}

Status UcxEndpoint::check_room() const {
  MEMPOOL_RETURN_IF_ERROR(check_open());
  if (*in_flight_ < pending_.size()) return {};
  return resource_exhausted(
      fmt::format("{} calls to peer {:x} are under way", pending_.size(), peer_));
}

Result<UcxEndpoint::Run> UcxEndpoint::run_of(const Call& call) const {
  Run run;
  bool one = true;
  const RunPair* last = nullptr;
  for (const RunPair& pair : call.pairs) {
    const auto remote = remotes_.find(pair.remote_region);
    if (pair.bytes == 0 || remote == remotes_.end() ||
        !lies_inside(remote->second.bytes, pair.remote_offset, pair.bytes)) {
      return invalid_argument(
          fmt::format("{} bytes at {} of region {} of peer {:x} are outside what its keys name",
                      pair.bytes, pair.remote_offset, pair.remote_region, peer_));
    }
    std::byte* const local =
        source_.memory.regions().resolve(pair.local_region, pair.local_offset, pair.bytes);
    if (local == nullptr) {
      return invalid_argument(fmt::format("{} bytes at {} of local region {} are not registered",
                                          pair.bytes, pair.local_offset, pair.local_region));
    }
    if (last == nullptr) run = {local, &remote->second, pair.remote_offset, 0};
    one &= last == nullptr ||
           (last->local_region == pair.local_region && last->remote_region == pair.remote_region &&
            last->local_offset + last->bytes == pair.local_offset &&
            last->remote_offset + last->bytes == pair.remote_offset);
    run.bytes += pair.bytes;
    last = &pair;
  }
  if (last == nullptr) return invalid_argument("a call without run pairs");
  if (one && run.bytes <= source_.capabilities.message_bytes) return run;
  return unsupported(
      fmt::format("a call takes one run of at most {} bytes", source_.capabilities.message_bytes));
}

// Requires: check_room(), which counts at least those that are not idle.
UcxEndpoint::Pending& UcxEndpoint::begin(Step step, Slot slot, uint64_t cookie) {
  MEMPOOL_CHECK(!idle_.empty());
  Pending& pending = *idle_.back();
  idle_.pop_back();
  pending.step = step;
  pending.stopped = false;
  pending.slot = slot;
  pending.cookie = cookie;
  ++*in_flight_;
  return pending;
}

ucp_request_param_t UcxEndpoint::parameters(Pending& pending) const {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.user_data = &pending;
  param.cb.send = [](void* request, ucs_status_t status, void* data) {
    ucp_request_free(request);
    auto* const done = static_cast<Pending*>(data);
    done->endpoint->ended(*done, status);
  };
  return param;
}

// UCX answers a post at once, or by its callback.
void UcxEndpoint::take(Pending& pending, ucs_status_ptr_t answer) {
  if (!UCS_PTR_IS_PTR(answer)) ended(pending, UCS_PTR_STATUS(answer));
}

Status UcxEndpoint::post(const Call& call) {
  const bool write = call.operation == Operation::kWrite;
  if (!(write ? source_.capabilities.write : source_.capabilities.read)) {
    return unsupported(fmt::format("UCX failed its self-test of {}", write ? "puts" : "gets"));
  }
  MEMPOOL_RETURN_IF_ERROR(check_room());
  MEMPOOL_ASSIGN_OR_RETURN(const Run run, run_of(call));
  Pending& pending = begin(Step::kMoving, call.slot, call.cookie);
  pending.region = call.pairs.front().local_region;
  pending.key = run.remote->key;
  ucp_request_param_t param = parameters(pending);
  param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
  param.memh = source_.memory.handle_of(pending.region);
  const uint64_t to = run.remote->base + run.remote_offset;
  const ucp_rkey_h key = run.remote->key.get();
  take(pending, write ? ucp_put_nbx(endpoint_, run.local, run.bytes, to, key, &param)
                      : ucp_get_nbx(endpoint_, run.local, run.bytes, to, key, &param));
  worker_->drive();

  ++counts_.network_calls;
  counts_.run_pairs += call.pairs.size();
  counts_.bytes += run.bytes;
  return {};
}

// First a flush: UCX keeps no order among puts and messages, which may take different lanes.
Status UcxEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  Pending& pending = begin(Step::kFlushing, slot, cookie);
  const ucp_request_param_t param = parameters(pending);
  take(pending, ucp_ep_flush_nbx(endpoint_, &param));
  worker_->drive();
  ++counts_.network_calls;
  return {};
}

void UcxEndpoint::send_notice(Pending& pending) {
  pending.step = Step::kNotifying;
  pending.notice = {pending.slot.index, pending.slot.generation};
  ucp_request_param_t param = parameters(pending);
  param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER;
  take(pending, ucp_am_send_nbx(endpoint_, static_cast<unsigned>(UcxMessage::kNotice),
                                pending.notice.data(), sizeof pending.notice, nullptr, 0, &param));
}

void UcxEndpoint::ended(Pending& pending, ucs_status_t status) {
  if (!closed_.ok()) {
    finish(pending, closed_);
  } else if (status != UCS_OK) {
    finish(pending, unavailable(fmt::format("the connection to peer {:x}: UCX: {}", peer_,
                                            ucs_status_string(status))));
  } else if (pending.step != Step::kFlushing) {
    finish(pending, {});
  } else if (pending.stopped) {
    finish(pending, cancelled("the slot was stopped"));
  } else {
    send_notice(pending);
  }
}

void UcxEndpoint::finish(Pending& pending, Status status) {
  pending.step = Step::kIdle;
  pending.key.reset();
  idle_.push_back(&pending);
  source_.events->completed(pending.cookie, std::move(status), in_flight_);
}

void UcxEndpoint::stop(Slot slot) {
  for (Pending& pending : pending_) pending.stopped |= pending.slot == slot;
}

bool UcxEndpoint::uses(uint32_t region) const {
  return std::ranges::any_of(pending_, [&](const Pending& pending) {
    return pending.step == Step::kMoving && pending.region == region;
  });
}

// ---- the connection --------------------------------------------------------------------------

void UcxEndpoint::on_progress() {
  if (!failure_.ok()) return lose(failure_);
  if (!opened_ || !greeted_) return;
  route_ = parse_ucx_route(printed([&](FILE* stream) { ucp_ep_print_info(endpoint_, stream); }));
  finish_opening({});
}

// Called from inside UCX, where nothing can be torn down.
void UcxEndpoint::fail(ucs_status_t status) {
  if (failure_.ok()) failure_ = unavailable(fmt::format("UCX: {}", ucs_status_string(status)));
}

// The connection ends by itself. `this` may be gone after it.
void UcxEndpoint::lose(Status why) {
  // With a worker there was an address to reach, and UCX, or the time, has told that it was not.
  if (opened_ && worker_ && why.code() == StatusCode::kUnavailable) {
    why = unavailable(fmt::format(
        "{}; does a device of ucx.devices reach one of the peer's, with the GID that it "
        "needs (ucx.config, \"IB_GID_INDEX=...\")?",
        why.message()));
  }
  if (opened_) return finish_opening(why);
  const Status lost = why.with_context(fmt::format("connection to peer {:x}", peer_));
  tear_down(unavailable(std::string(lost.message())));
  source_.events->lost(peer_, Direction::kOutbound, lost);
}

void UcxEndpoint::close() {
  if (!closed_.ok()) return;
  opened_ = nullptr;
  tear_down(unavailable(fmt::format("the connection to peer {:x} was closed here", peer_)));
}

void UcxEndpoint::tear_down(const Status& why) {
  closed_ = why;
  link_->close();
  // The worker owns the memory of its keys, and reads none of them while it goes.
  remotes_.clear();
  for (Pending& pending : pending_) pending.key.reset();
  // Not by ucp_ep_close_nbx(): UCX 1.13 ends the process when that meets a connection half made.
  if (worker_) worker_->close();
  endpoint_ = nullptr;
  for (Pending& pending : pending_) {
    if (pending.step != Step::kIdle) finish(pending, why);
  }
}

}  // namespace mempool
