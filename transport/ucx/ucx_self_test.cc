// SPDX-License-Identifier: Apache-2.0
// Owns the two workers that test each other, and the judgement of what they measured.
#include "transport/ucx/ucx_self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/log.h"
#include "core/random.h"
#include "transport/ucx/ucx_verdict.h"
#include "transport/ucx/ucx_words.h"
#include "transport/ucx/ucx_worker.h"

namespace mempool {
namespace {

using Steady = std::chrono::steady_clock;

constexpr std::chrono::seconds kHang{5};             // for one operation
constexpr std::chrono::milliseconds kMeasured{100};  // no larger size is begun after that
constexpr int kPuts = 3;                             // the best one counts
constexpr uint64_t kSmallest = 4001;                 // no multiple of anything
constexpr uint64_t kFirstMeasured = uint64_t{64} << 10;

/// Memory that UCX has registered, for one size. Thread: confined.
class TestMemory {
 public:
  TestMemory(ucp_context_h context, uint64_t bytes) : context_(context), bytes_(bytes) {}
  ~TestMemory() {
    if (handle_ != nullptr) ucp_mem_unmap(context_, handle_);
  }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;

  Status map() {
    ucp_mem_map_params_t params{};
    params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
    params.address = bytes_.data();
    params.length = bytes_.size();
    const UcxWords words;
    const ucs_status_t status = ucp_mem_map(context_, &params, &handle_);
    if (status == UCS_OK) return {};
    handle_ = nullptr;
    return words.failure(status, fmt::format("register {} bytes", bytes_.size()));
  }
  std::vector<std::byte>& bytes() { return bytes_; }
  ucp_mem_h handle() const { return handle_; }

 private:
  const ucp_context_h context_;
  std::vector<std::byte> bytes_;
  ucp_mem_h handle_ = nullptr;
};

/// Two workers of which one is connected to the other. What hangs may still write: its workers go
/// before the memory does, and nothing follows. Thread: confined.
class TestPair {
 public:
  explicit TestPair(ucp_context_h context) : context_(context) {}

  Status connect();
  Status send_notice();
  /// Errors: kUnavailable where an operation did not end.
  Result<UcxSample> move(uint64_t bytes, bool puts, bool gets);

 private:
  struct KeyDestroy {
    void operator()(ucp_rkey_h key) const { ucp_rkey_destroy(key); }
  };
  using Key = std::unique_ptr<std::remove_pointer_t<ucp_rkey_h>, KeyDestroy>;

  static ucp_request_param_t plain() { return {}; }
  Status done(ucs_status_ptr_t answer, const char* what);
  bool progress_until(const std::function<bool()>& condition);
  Status put(TestMemory& from, TestMemory& to, ucp_rkey_h key, double& bytes_per_second);
  Status get(TestMemory& into, TestMemory& from, ucp_rkey_h key);
  Result<Key> key_of(const TestMemory& memory);

  const ucp_context_h context_;
  UcxWorkerHandle near_;
  UcxWorkerHandle far_;
  ucp_ep_h endpoint_ = nullptr;
  UcxNotice heard_{};
  bool hung_ = false;
};

bool TestPair::progress_until(const std::function<bool()>& condition) {
  const Steady::time_point most = Steady::now() + kHang;
  while (!condition()) {
    const unsigned moved = ucp_worker_progress(near_.get()) + ucp_worker_progress(far_.get());
    if (moved > 0) continue;
    if (Steady::now() > most) return false;
    std::this_thread::yield();
  }
  return true;
}

Status TestPair::done(ucs_status_ptr_t answer, const char* what) {
  const UcxWords words;
  ucs_status_t status = UCS_PTR_IS_PTR(answer) ? UCS_INPROGRESS : UCS_PTR_STATUS(answer);
  if (status == UCS_INPROGRESS) {
    hung_ = !progress_until([&] {
      status = ucp_request_check_status(answer);
      return status != UCS_INPROGRESS;
    });
    if (hung_) return words.failure(UCS_ERR_TIMED_OUT, what);  // the worker has the request
    ucp_request_free(answer);
  }
  if (status == UCS_OK) return {};
  return words.failure(status, what);
}

Status TestPair::connect() {
  MEMPOOL_ASSIGN_OR_RETURN(near_, make_ucx_worker(context_));
  MEMPOOL_ASSIGN_OR_RETURN(far_, make_ucx_worker(context_));
  const auto heard = [](void* notice, const void* header, size_t bytes, void*, size_t,
                        const ucp_am_recv_param_t*) {
    std::memcpy(notice, header, std::min(bytes, sizeof(UcxNotice)));
    return UCS_OK;
  };
  MEMPOOL_RETURN_IF_ERROR(hear_ucx(far_.get(), UcxMessage::kNotice, heard, &heard_));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::byte> address, ucx_address_of(far_.get()));
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = [](void*, ucp_ep_h, ucs_status_t) {};  // its requests fail too
  const UcxWords words;
  const ucs_status_t status = ucp_ep_create(near_.get(), &params, &endpoint_);
  if (status != UCS_OK) return words.failure(status, "connect");
  const ucp_request_param_t param = plain();
  return done(ucp_ep_flush_nbx(endpoint_, &param), "connect");
}

Status TestPair::send_notice() {
  const UcxNotice sent = {0x6d656d70, 0x6f6f6c21};
  ucp_request_param_t param = plain();
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER;
  MEMPOOL_RETURN_IF_ERROR(
      done(ucp_am_send_nbx(endpoint_, static_cast<unsigned>(UcxMessage::kNotice), sent.data(),
                           sizeof sent, nullptr, 0, &param),
           "send a message"));
  if (progress_until([&] { return heard_ == sent; })) return {};
  return unavailable("a message came changed or not at all");
}

Result<TestPair::Key> TestPair::key_of(const TestMemory& memory) {
  void* packed = nullptr;
  size_t bytes = 0;
  const UcxWords words;
  ucs_status_t status = ucp_rkey_pack(context_, memory.handle(), &packed, &bytes);
  if (status != UCS_OK) return words.failure(status, "pack a key");
  ucp_rkey_h key = nullptr;
  status = ucp_ep_rkey_unpack(endpoint_, packed, &key);
  ucp_rkey_buffer_release(packed);
  if (status != UCS_OK) return words.failure(status, "unpack a key");
  return Key(key);
}

Status TestPair::put(TestMemory& from, TestMemory& to, ucp_rkey_h key, double& bytes_per_second) {
  const ucp_request_param_t param = plain();
  const auto base = reinterpret_cast<uint64_t>(to.bytes().data());
  for (int i = 0; i < kPuts; ++i) {
    const Steady::time_point begun = Steady::now();
    MEMPOOL_RETURN_IF_ERROR(
        done(ucp_put_nbx(endpoint_, from.bytes().data(), from.bytes().size(), base, key, &param),
             "put"));
    MEMPOOL_RETURN_IF_ERROR(done(ucp_ep_flush_nbx(endpoint_, &param), "flush"));
    const std::chrono::duration<double> taken = Steady::now() - begun;
    bytes_per_second =
        std::max(bytes_per_second, static_cast<double>(from.bytes().size()) / taken.count());
  }
  if (from.bytes() == to.bytes()) return {};
  return corruption(fmt::format("a put of {} bytes changed them", from.bytes().size()));
}

Status TestPair::get(TestMemory& into, TestMemory& from, ucp_rkey_h key) {
  const ucp_request_param_t param = plain();
  MEMPOOL_RETURN_IF_ERROR(
      done(ucp_get_nbx(endpoint_, into.bytes().data(), into.bytes().size(),
                       reinterpret_cast<uint64_t>(from.bytes().data()), key, &param),
           "get"));
  if (from.bytes() == into.bytes()) return {};
  return corruption(fmt::format("a get of {} bytes changed them", from.bytes().size()));
}

Result<UcxSample> TestPair::move(uint64_t bytes, bool puts, bool gets) {
  TestMemory near(context_, bytes);
  TestMemory far(context_, bytes);
  Status ready = near.map();
  if (ready.ok()) ready = far.map();
  if (!ready.ok()) return UcxSample{bytes, ready, ready};
  Result<Key> key = key_of(far);
  if (!key.ok()) return UcxSample{bytes, key.status(), key.status()};
  Random random(bytes);
  for (std::byte& byte : near.bytes()) byte = static_cast<std::byte>(random.next());
  const std::vector<std::byte> pattern = near.bytes();
  UcxSample sample{bytes};
  if (puts) sample.put = put(near, far, key->get(), sample.put_bytes_per_second);
  if (gets && !hung_) {
    far.bytes() = pattern;  // whatever a put has left there
    std::ranges::fill(near.bytes(), std::byte{0});
    sample.get = get(near, far, key->get());
  }
  if (!hung_) return sample;
  key->reset();
  near_.reset();
  far_.reset();
  return sample.put.ok() ? sample.get : sample.put;
}

std::vector<uint64_t> sizes_up_to(uint64_t most) {
  std::vector<uint64_t> sizes = {std::min(kSmallest, most)};
  for (uint64_t bytes = kFirstMeasured; bytes < most; bytes *= 4) sizes.push_back(bytes);
  if (sizes.back() != most) sizes.push_back(most);
  return sizes;
}

}  // namespace

Status test_ucx(ucp_context_h context, Capabilities& capabilities) {
  TestPair pair(context);
  MEMPOOL_RETURN_IF_ERROR(pair.connect().with_context("self-test"));
  MEMPOOL_RETURN_IF_ERROR(pair.send_notice().with_context("self-test"));
  const Steady::time_point begun = Steady::now();
  std::vector<UcxSample> samples;
  UcxVerdict verdict;
  for (const uint64_t bytes : sizes_up_to(capabilities.message_bytes)) {
    if (verdict.bytes > kSmallest && Steady::now() - begun > kMeasured) break;
    Result<UcxSample> sample = pair.move(bytes, verdict.put, verdict.get);
    if (!sample.ok()) return sample.status().with_context("self-test");
    samples.push_back(std::move(sample).value());
    verdict = judge_ucx(samples);
    if (verdict.final) break;
  }
  if (!verdict.put && !verdict.get) return verdict.turned_off.back().with_context("self-test");
  for (const Status& wrong : verdict.turned_off) {
    log().warning("ucx: self-test: {}; it is not used", wrong.to_string());
  }
  capabilities.write = verdict.put;
  capabilities.read = verdict.get;
  if (verdict.bytes < capabilities.message_bytes) {
    log().info("ucx: a call takes at most {} bytes, of {}: {}", verdict.bytes,
               capabilities.message_bytes,
               verdict.why.empty() ? "no larger one was tried" : verdict.why);
    capabilities.message_bytes = verdict.bytes;
  }
  return {};
}

}  // namespace mempool
