// SPDX-License-Identifier: Apache-2.0
// Owns the making of workers, and their progress without spinning.
#include "transport/ucx/ucx_worker.h"

#include <fmt/format.h>

#include <chrono>

#include "core/check.h"
#include "transport/ucx/ucx_words.h"

namespace mempool {
namespace {

// Steps of progress before the loop's other handlers have a turn.
constexpr int kStepsMost = 64;
// A descriptor that is ready though there is nothing to do, again and again: over tcp it is while a
// connection waits for the peer's answer. It is looked at in such intervals then.
constexpr int kIdleWakesMost = 3;
constexpr std::chrono::milliseconds kIdlePause{1};

}  // namespace

Result<UcxWorkerHandle> make_ucx_worker(ucp_context_h context, std::string* said) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_FLAGS;
  // Not single: a transport may be destroyed on another thread once its own has ended.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  // A connection is ended with requests under way; they go with the worker.
  params.flags = UCP_WORKER_FLAG_IGNORE_REQUEST_LEAK;
  ucp_worker_h worker = nullptr;
  const UcxWords words;  // also of settings that these transports have no use for
  const ucs_status_t status = ucp_worker_create(context, &params, &worker);
  if (status != UCS_OK) return words.failure(status, "make a worker");
  if (said != nullptr) *said = words.said();
  return UcxWorkerHandle(worker);
}

Result<std::vector<std::byte>> ucx_address_of(ucp_worker_h worker) {
  ucp_address_t* address = nullptr;
  size_t bytes = 0;
  const UcxWords words;
  const ucs_status_t status = ucp_worker_get_address(worker, &address, &bytes);
  if (status != UCS_OK) return words.failure(status, "give a worker's address");
  const auto* const first = reinterpret_cast<const std::byte*>(address);
  std::vector<std::byte> copy(first, first + bytes);
  ucp_worker_release_address(worker, address);
  return copy;
}

Status hear_ucx(ucp_worker_h worker, UcxMessage kind, ucp_am_recv_callback_t hear, void* argument) {
  ucp_am_handler_param_t param{};
  param.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                     UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  param.id = static_cast<unsigned>(kind);
  param.flags = UCP_AM_FLAG_WHOLE_MSG;
  param.cb = hear;
  param.arg = argument;
  const UcxWords words;
  const ucs_status_t status = ucp_worker_set_am_recv_handler(worker, &param);
  if (status != UCS_OK) return words.failure(status, "hear messages");
  return {};
}

ucs_status_t send_ucx_hello(ucp_ep_h endpoint) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY;
  const ucs_status_ptr_t answer = ucp_am_send_nbx(
      endpoint, static_cast<unsigned>(UcxMessage::kHello), nullptr, 0, nullptr, 0, &param);
  if (!UCS_PTR_IS_PTR(answer)) return UCS_PTR_STATUS(answer);
  ucp_request_free(answer);  // once it has ended
  return UCS_OK;
}

Result<std::shared_ptr<UcxWorker>> UcxWorker::open(UcxContext& context, Loop& loop,
                                                   UcxWorkerOwner& owner) {
  MEMPOOL_ASSIGN_OR_RETURN(UcxWorkerHandle handle, make_ucx_worker(context.handle()));
  int events = -1;
  const UcxWords words;
  const ucs_status_t status = ucp_worker_get_efd(handle.get(), &events);
  if (status != UCS_OK) return words.failure(status, "give a worker's descriptor");
  MEMPOOL_ASSIGN_OR_RETURN(Descriptor timer, make_timer());
  auto worker = std::make_shared<UcxWorker>(context, std::move(handle), events, std::move(timer),
                                            loop, owner);
  worker->drive();
  return worker;
}

UcxWorker::UcxWorker(UcxContext& context, UcxWorkerHandle worker, int events, Descriptor timer,
                     Loop& loop, UcxWorkerOwner& owner)
    : context_(context),
      loop_(loop),
      worker_(std::move(worker)),
      events_(events),
      owner_(owner),
      timer_(std::move(timer)),
      task_(loop.make_task([this] { turn(false); })) {
  watch();
}

void UcxWorker::turn(bool woken) {
  const std::shared_ptr<UcxWorker> self = shared_from_this();
  int steps = 0;
  while (steps < kStepsMost && ucp_worker_progress(worker_.get()) != 0) ++steps;
  idle_wakes_ = woken && steps == 0 ? idle_wakes_ + 1 : 0;
  owner_.on_progress();
  if (!worker_) return;
  if (steps == kStepsMost) return drive();
  const ucs_status_t armed = ucp_worker_arm(worker_.get());
  if (armed == UCS_ERR_BUSY) return drive();
  if (armed != UCS_OK) {
    owner_.on_broken(unavailable(fmt::format("wait: UCX: {}", ucs_status_string(armed))));
  } else if (idle_wakes_ >= kIdleWakesMost) {
    pause();
  }
}

void UcxWorker::watch() {
  watch_ = loop_.watch(events_, [this] { turn(true); });
}

void UcxWorker::pause() {
  start_timer(timer_, kIdlePause);
  watch_ = loop_.watch(timer_.number(), [this] {
    watch();
    turn(true);
  });
}

void UcxWorker::close() {
  task_.reset();
  watch_.reset();
  const UcxWords words;  // of requests that are cut off, as they are meant to be
  UcxWorkerHandle ended = std::move(worker_);
  if (ended && !greeted_) context_.take_half_made(std::move(ended));
}

}  // namespace mempool
