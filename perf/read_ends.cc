// SPDX-License-Identifier: Apache-2.0
// Owns the two ends of a measured read: one-sided reads over a transport's raw endpoints.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "perf/measure.h"
#include "perf/raw_side.h"
#include "perf/transfer_ends.h"
#include "transport/gather_plan.h"

namespace mempool {
namespace {

constexpr uint64_t kReader = 1;  // incarnations of the two sides
constexpr uint64_t kHolder = 2;
constexpr Slot kSlot{1, 1};

/// Blocks of the holder's memory: every other one when scattered.
std::vector<uint32_t> held_blocks(const TransferShape& shape) {
  std::vector<uint32_t> blocks(shape.blocks);
  for (uint32_t i = 0; i < shape.blocks; ++i) blocks[i] = shape.scattered ? 2 * i : i;
  return blocks;
}

std::vector<iovec> pieces_of(const RawSide& side, const TransferShape& shape,
                             const std::vector<uint32_t>& blocks) {
  std::vector<iovec> result;
  result.reserve(shape.pieces());
  for (const ListedPiece& listed : piece_order(shape)) {
    const auto bytes = side.piece(blocks[listed.position], listed.piece);
    result.push_back({bytes.data(), bytes.size()});
  }
  return result;
}

std::vector<std::byte> to_bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

/// Thread: confined.
class ReadingEnd : public MovingEnd {
 public:
  /// `address` is the holder's transport address and region key, each led by its length.
  static Result<std::unique_ptr<MovingEnd>> open(const TransferCase& measured,
                                                 const TransferSite& site,
                                                 const std::string& address) {
    auto end = std::make_unique<ReadingEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    end->blocks_ = list_order(end->shape_);
    end->held_ = held_blocks(end->shape_);
    MEMPOOL_ASSIGN_OR_RETURN(end->side_,
                             RawSide::open(measured, end->shape_.content, end->shape_.placement,
                                           {.token = site.token}, end->shape_.blocks, kReader));
    end->remote_.blocks = end->shape_.blocks * (end->shape_.scattered ? 2 : 1);
    MEMPOOL_ASSIGN_OR_RETURN(
        end->remote_.layout,
        make_layout(end->shape_.content, end->shape_.serving_placement, end->remote_.blocks));
    const size_t split = address.empty() ? 0 : static_cast<unsigned char>(address[0]);
    if (address.size() <= split) return invalid_argument("the other side gave no address");
    MEMPOOL_RETURN_IF_ERROR(
        end->connect(site.host, to_bytes(std::string_view(address).substr(1, split))));
    MEMPOOL_RETURN_IF_ERROR(
        end->endpoint_->import_key(0, to_bytes(std::string_view(address).substr(1 + split))));
    return std::unique_ptr<MovingEnd>(std::move(end));
  }

  Result<MoveSample> move_by_layer(uint32_t, std::chrono::microseconds) override {
    return unsupported("a raw read has no prefill to wait for");
  }

  Result<MoveSample> move(uint32_t) override {
    const CallCounts before = endpoint_->counts();
    const Stopwatch watch;
    MEMPOOL_ASSIGN_OR_RETURN(GatherPlan plan, GatherPlan::create({{&side_->segment(), 1}, blocks_},
                                                                 {{&remote_, 1}, held_}));
    MoveSample sample;
    sample.prepare_us = watch.seconds() * 1e6;
    MEMPOOL_RETURN_IF_ERROR(post_all(plan, sample));
    sample.post_us = watch.seconds() * 1e6 - sample.prepare_us;
    const uint64_t posted = posted_;
    while (side_->completed() < posted && side_->failure().ok()) side_->wait_event();
    MEMPOOL_RETURN_IF_ERROR(side_->failure());
    sample.seconds = watch.seconds();
    sample.complete_us = sample.seconds * 1e6 - sample.prepare_us - sample.post_us;
    sample.bytes = plan.bytes();
    sample.paper_calls = plan.paper_calls();
    const CallCounts after = endpoint_->counts();
    if (after.system_calls && before.system_calls) {
      sample.system_calls = *after.system_calls - *before.system_calls;
    }
    sample.doorbells = after.doorbells - before.doorbells;
    sample.completions = after.completions - before.completions;
    return sample;
  }

  double connect_us() const override { return connect_us_; }
  std::vector<iovec> pieces() const override { return pieces_of(*side_, shape_, blocks_); }

  Status check() const override {
    for (size_t position = 0; position < blocks_.size(); ++position) {
      for (uint32_t piece = 0; piece < shape_.pieces_per_block; ++piece) {
        if (!holds_piece(side_->piece(blocks_[position], piece), position, piece)) {
          return corruption(
              fmt::format("piece {} of block {} is not what is held there", piece, position));
        }
      }
    }
    return Status();
  }

 private:
  Status connect(const std::string& host, const std::vector<std::byte>& address) {
    std::optional<Status> connected;
    const Stopwatch watch;
    side_->transport().connect(kHolder, host, address,
                               [&](Result<std::unique_ptr<Endpoint>> endpoint) {
                                 connected = endpoint.status();
                                 if (endpoint.ok()) endpoint_ = std::move(*endpoint);
                               });
    while (!connected && side_->failure().ok()) side_->wait_event();
    connect_us_ = watch.seconds() * 1e6;
    return connected ? *connected : side_->failure();
  }

  Status post_all(GatherPlan& plan, MoveSample& sample) {
    const Capabilities& offers = side_->transport().capabilities();
    const CallLimits limits = offers.limits(Operation::kRead);
    std::vector<RunPair> pairs(std::max(limits.local_pieces, limits.remote_ranges));
    while (const size_t count = plan.next_call(limits, pairs)) {
      const Call call{Operation::kRead, kSlot, 0, std::span(pairs).first(count)};
      Status status = endpoint_->post(call);
      while (status.code() == StatusCode::kResourceExhausted && side_->failure().ok()) {
        side_->wait_event();  // a completion makes room
        status = endpoint_->post(call);
      }
      MEMPOOL_RETURN_IF_ERROR(side_->failure());
      MEMPOOL_RETURN_IF_ERROR(status);
      ++posted_;
      ++sample.network_calls;
      sample.run_pair_calls += count;
    }
    return Status();
  }

  TransferShape shape_;
  std::vector<uint32_t> blocks_;
  std::vector<uint32_t> held_;
  std::unique_ptr<RawSide> side_;
  PlanSegment remote_;
  std::unique_ptr<Endpoint> endpoint_;  // goes before its transport
  uint64_t posted_ = 0;
  double connect_us_ = 0;
};

/// Thread: confined.
class ReadEnd : public ServingEnd {
 public:
  static Result<std::unique_ptr<ServingEnd>> open(const TransferCase& measured,
                                                  const TransferSite& site) {
    auto end = std::make_unique<ReadEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    const uint32_t blocks = end->shape_.blocks * (end->shape_.scattered ? 2 : 1);
    MEMPOOL_ASSIGN_OR_RETURN(
        end->side_, RawSide::open(measured, end->shape_.content, end->shape_.serving_placement,
                                  site, blocks, kHolder));
    const std::vector<uint32_t> held = held_blocks(end->shape_);
    for (size_t position = 0; position < held.size(); ++position) {
      for (uint32_t piece = 0; piece < end->shape_.pieces_per_block; ++piece) {
        fill_piece(end->side_->piece(held[position], piece), position, piece);
      }
    }
    Transport& transport = end->side_->transport();
    MEMPOOL_RETURN_IF_ERROR(transport.open_slot(kReader, kSlot));
    MEMPOOL_ASSIGN_OR_RETURN(const auto address, transport.address_for(kReader));
    MEMPOOL_ASSIGN_OR_RETURN(const auto key, transport.export_key(0));
    end->address_.push_back(static_cast<char>(address.size()));
    end->address_.append(reinterpret_cast<const char*>(address.data()), address.size());
    end->address_.append(reinterpret_cast<const char*>(key.data()), key.size());
    end->side_->serve();
    return std::unique_ptr<ServingEnd>(std::move(end));
  }

  std::string address() const override { return address_; }
  Status check(uint32_t) override { return Status(); }
  Status clean(uint32_t) override { return Status(); }
  Result<std::vector<iovec>> lend_pieces() override {
    return pieces_of(*side_, shape_, held_blocks(shape_));
  }
  Status take_back() override { return Status(); }

 private:
  TransferShape shape_;
  std::unique_ptr<RawSide> side_;
  std::string address_;
};

}  // namespace

Result<std::unique_ptr<MovingEnd>> open_reading_end(const TransferCase& measured,
                                                    const TransferSite& site,
                                                    const std::string& address) {
  return ReadingEnd::open(measured, site, address);
}

Result<std::unique_ptr<ServingEnd>> open_read_end(const TransferCase& measured,
                                                  const TransferSite& site) {
  return ReadEnd::open(measured, site);
}

}  // namespace mempool
