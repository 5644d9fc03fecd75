// SPDX-License-Identifier: Apache-2.0
// Owns the order of an endpoint's calls under faults: nothing overtakes a call that waits.
#include "transport/fault/fault_endpoint.h"

#include <utility>

#include "core/check.h"

namespace mempool {

FaultEndpoint::FaultEndpoint(std::unique_ptr<Endpoint> inner, FaultTransport& transport)
    : ForwardingEndpoint(std::move(inner)), transport_(transport), timer_(transport.io_) {}

FaultEndpoint::~FaultEndpoint() {
  end_held(unavailable("the connection was closed here"));
  if (late_) transport_.bounce_taken_ = false;
}

Status FaultEndpoint::check_room() const {
  if (closed_) return unavailable("the connection was closed here");
  if (held_.size() + *in_flight_ < transport_.capabilities().calls_in_flight) return {};
  return resource_exhausted("as many calls as may be are under way");
}

Status FaultEndpoint::post(const Call& call) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  const FaultPlan& plan = transport_.plan_;
  if (plan.fail_every > 0 && ++transport_.posted_ % plan.fail_every == 0) {
    end(call.cookie, unavailable("a fault of the plan: this call fails"));
    return {};
  }
  if (held_.empty() && !transport_.random_.chance(plan.delay)) return pass(call);
  hold({false, call.operation, call.slot, call.cookie, {call.pairs.begin(), call.pairs.end()}});
  return {};
}

Status FaultEndpoint::notify(Slot slot, uint64_t cookie) {
  MEMPOOL_RETURN_IF_ERROR(check_room());
  if (held_.empty()) return inner().notify(slot, cookie);
  hold({true, Operation::kWrite, slot, cookie, {}});
  return {};
}

// Hand a call on, changed if the plan wants it so.
Status FaultEndpoint::pass(const Call& call) {
  const FaultPlan& plan = transport_.plan_;
  if (call.operation != Operation::kWrite) return inner().post(call);
  Random& random = transport_.random_;
  const bool corrupt = random.chance(plan.corrupt);
  const bool truncate = random.chance(plan.truncate);
  const bool again = random.chance(plan.land_late);
  if (truncate) {
    std::vector<RunPair> pairs(call.pairs.begin(), call.pairs.end());
    if (--pairs.back().bytes == 0) pairs.pop_back();
    Call shorter = call;
    shorter.pairs = pairs;
    if (!pairs.empty()) return inner().post(shorter);
    end(call.cookie, {});
    return {};
  }
  if (corrupt) return pass_corrupted(call);
  if (again) keep_for_later(call);
  return inner().post(call);
}

Status FaultEndpoint::pass_corrupted(const Call& call) {
  std::vector<RunPair> pairs;
  if (!transport_.fill_bounce(call, pairs)) return inner().post(call);
  const RunPair& last = pairs.back();
  const uint64_t bit = transport_.random_.below(8 * (last.local_offset + last.bytes));
  transport_.bounce_[bit / 8] ^= std::byte{1} << (bit % 8);
  Call changed = call;
  changed.pairs = pairs;
  Status status = inner().post(changed);
  if (!status.ok()) transport_.bounce_taken_ = false;
  return status;
}

void FaultEndpoint::keep_for_later(const Call& call) {
  Held kept{false, call.operation, call.slot, kLateCookie, {}};
  if (late_ || !transport_.fill_bounce(call, kept.pairs)) return;
  transport_.bounce_cookie_ = kLateCookie;
  late_ = std::move(kept);
}

void FaultEndpoint::stop(Slot slot) {
  std::erase_if(held_, [&](const Held& held) {
    if (held.slot != slot) return false;
    end(held.cookie, cancelled("the slot was stopped"));
    return true;
  });
  inner().stop(slot);
  if (!late_ || late_->slot != slot) return;
  late_due_ = true;
  wait();
}

void FaultEndpoint::hold(Held held) {
  held_.push_back(std::move(held));
  if (held_.size() == 1) wait();
}

// One timer serves both those that wait and the one that comes late.
void FaultEndpoint::wait() {
  const auto most = static_cast<uint64_t>(transport_.plan_.delay_most.count());
  timer_.expires_after(std::chrono::milliseconds(transport_.random_.below(most + 1)));
  timer_.async_wait([this, alive = std::weak_ptr<Alive>(alive_)](boost::system::error_code error) {
    if (!error && !alive.expired()) release();
  });
}

void FaultEndpoint::release() {
  while (!held_.empty()) {
    const Held& held = held_.front();
    const Status status = held.notification
                              ? inner().notify(held.slot, held.cookie)
                              : pass({held.operation, held.slot, held.cookie, held.pairs});
    if (status.code() == StatusCode::kResourceExhausted) return wait();
    if (!status.ok()) end(held.cookie, status);
    held_.pop_front();
  }
  if (!std::exchange(late_due_, false)) return;
  const Call call{late_->operation, late_->slot, kLateCookie, late_->pairs};
  const Status status = inner().post(call);
  if (!status.ok()) transport_.bounce_taken_ = false;
  late_.reset();
}

void FaultEndpoint::close() {
  closed_ = true;
  end_held(unavailable("the connection was closed here"));
  inner().close();
}

void FaultEndpoint::end(uint64_t cookie, Status status) {
  ++*in_flight_;
  transport_.queue_->completed(cookie, std::move(status), in_flight_);
}

void FaultEndpoint::end_held(const Status& status) {
  for (const Held& held : std::exchange(held_, {})) end(held.cookie, status);
}

}  // namespace mempool
