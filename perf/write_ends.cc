// SPDX-License-Identifier: Apache-2.0
// Owns the two ends of a measured write: transfer_with_insert between two agents.
#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/listen_socket.h"
#include "mempool/agent.h"
#include "perf/measure.h"
#include "perf/transfer_ends.h"

namespace mempool {
namespace {

constexpr char kTargetName[] = "target";
constexpr std::chrono::milliseconds kDeadline{60000};

AgentOptions agent_options_of(const TransferCase& measured, const TransferShape& shape,
                              const Placement& placement, const TransferSite& site,
                              uint32_t blocks) {
  AgentOptions options;
  options.token = site.token;
  options.transports = {measured.transport};
  options.require = options.transports;
  options.transport_options = options_at(site, measured);
  options.content = shape.content;
  options.placement = placement;
  options.segment_blocks = {blocks};
  options.verify = measured.verify;
  options.deliver_arrivals = false;
  return options;
}

Result<std::span<std::byte>> piece_of(const Agent& agent, const BlockAddress& block,
                                      uint32_t piece) {
  const uint32_t parts = agent.layout().parts;
  return agent.piece(block, piece / parts, piece % parts);
}

Result<std::vector<iovec>> pieces_of(const Agent& agent, const TransferShape& shape,
                                     const std::vector<BlockAddress>& blocks) {
  std::vector<iovec> result;
  result.reserve(shape.pieces());
  for (const ListedPiece& listed : piece_order(shape)) {
    MEMPOOL_ASSIGN_OR_RETURN(const std::span<std::byte> bytes,
                             piece_of(agent, blocks[listed.position], listed.piece));
    result.push_back({bytes.data(), bytes.size()});
  }
  return result;
}

/// Thread: confined.
class WritingEnd : public MovingEnd {
 public:
  static Result<std::unique_ptr<MovingEnd>> open(const TransferCase& measured,
                                                 const TransferSite& site,
                                                 const std::string& address) {
    auto end = std::make_unique<WritingEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    AgentOptions options =
        agent_options_of(measured, end->shape_, end->shape_.placement, site, end->shape_.blocks);
    options.name = "source";
    options.peers[kTargetName] = address;
    MEMPOOL_ASSIGN_OR_RETURN(end->agent_, Agent::start(options));
    MEMPOOL_ASSIGN_OR_RETURN(end->content_, end->agent_->content(options.content));
    MEMPOOL_ASSIGN_OR_RETURN(const auto taken, end->agent_->alloc(end->shape_.blocks));
    for (const uint32_t position : list_order(end->shape_)) end->blocks_.push_back(taken[position]);
    MEMPOOL_RETURN_IF_ERROR(end->fill());
    MEMPOOL_ASSIGN_OR_RETURN(end->pieces_, pieces_of(*end->agent_, end->shape_, end->blocks_));
    return std::unique_ptr<MovingEnd>(std::move(end));
  }

  Result<MoveSample> move(uint32_t repeat) override {
    const Stopwatch watch;
    MEMPOOL_ASSIGN_OR_RETURN(const Transfer transfer, begin(repeat, TransferMode::kByRequest));
    MEMPOOL_RETURN_IF_ERROR(transfer.wait());
    if (connect_us_ == 0) connect_us_ = transfer.report().prepare_us;  // it dialed before the offer
    return sample_of(transfer, watch.seconds());
  }

  Result<MoveSample> move_by_layer(uint32_t repeat, std::chrono::microseconds layer_time) override {
    const Stopwatch watch;
    MEMPOOL_ASSIGN_OR_RETURN(Transfer transfer, begin(repeat, TransferMode::kByLayer));
    for (uint32_t layer = 0; layer < shape_.content.layers; ++layer) {
      std::this_thread::sleep_for(layer_time);
      if (layer + 1 == shape_.content.layers) break;
      MEMPOOL_RETURN_IF_ERROR(transfer.send_layers(layer, 1));
    }
    const Stopwatch tail;
    MEMPOOL_RETURN_IF_ERROR(transfer.send_layers(shape_.content.layers - 1, 1));
    MEMPOOL_RETURN_IF_ERROR(transfer.commit());
    MEMPOOL_RETURN_IF_ERROR(transfer.wait());
    const double tail_us = tail.seconds() * 1e6;
    MEMPOOL_ASSIGN_OR_RETURN(MoveSample sample, sample_of(transfer, watch.seconds()));
    sample.tail_us = tail_us;
    return sample;
  }

  double connect_us() const override { return connect_us_; }
  std::vector<iovec> pieces() const override { return pieces_; }
  Status check() const override { return Status(); }

 private:
  Result<Transfer> begin(uint32_t repeat, TransferMode mode) {
    const std::vector<TokenId> tokens = tokens_of(shape_, repeat);
    TransferOptions options;
    options.mode = mode;
    options.deadline = kDeadline;
    return agent_->transfer_with_insert(kTargetName, {content_, tokens}, blocks_, options);
  }

  static Result<MoveSample> sample_of(const Transfer& transfer, double seconds) {
    const TransferReport report = transfer.report();
    if (report.bytes_saved != 0) {
      return internal_error("the target had part of a fresh prompt; nothing was measured");
    }
    return MoveSample{.seconds = seconds,
                      .prepare_us = report.prepare_us,
                      .post_us = report.post_us,
                      .complete_us = report.complete_us,
                      .bytes = report.bytes,
                      .paper_calls = report.paper_calls,
                      .run_pair_calls = report.run_pair_calls,
                      .network_calls = report.network_calls,
                      .system_calls = report.system_calls,
                      .doorbells = report.doorbells,
                      .completions = report.completions};
  }

  Status fill() {
    for (size_t position = 0; position < blocks_.size(); ++position) {
      for (uint32_t piece = 0; piece < shape_.pieces_per_block; ++piece) {
        MEMPOOL_ASSIGN_OR_RETURN(const std::span<std::byte> bytes,
                                 piece_of(*agent_, blocks_[position], piece));
        fill_piece(bytes, position, piece);
      }
    }
    return Status();
  }

  TransferShape shape_;
  std::unique_ptr<Agent> agent_;
  Content content_;
  std::vector<BlockAddress> blocks_;
  std::vector<iovec> pieces_;
  double connect_us_ = 0;
};

/// Thread: confined.
class WrittenEnd : public ServingEnd {
 public:
  static Result<std::unique_ptr<ServingEnd>> open(const TransferCase& measured,
                                                  const TransferSite& site) {
    auto end = std::make_unique<WrittenEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    const uint32_t blocks = end->shape_.blocks * (end->shape_.scattered ? 2 : 1);
    AgentOptions options =
        agent_options_of(measured, end->shape_, end->shape_.serving_placement, site, blocks);
    options.name = kTargetName;
    options.listen = join_address(site.host, 0);
    MEMPOOL_ASSIGN_OR_RETURN(end->agent_, Agent::start(options));
    MEMPOOL_ASSIGN_OR_RETURN(end->content_, end->agent_->content(options.content));
    if (end->shape_.scattered) MEMPOOL_RETURN_IF_ERROR(end->fragment(blocks));
    return std::unique_ptr<ServingEnd>(std::move(end));
  }

  std::string address() const override { return agent_->status().listen; }

  Status check(uint32_t repeat) override {
    const std::vector<TokenId> tokens = tokens_of(shape_, repeat);
    const MatchResult found = agent_->match({content_, tokens});
    Status status = check_blocks(found.blocks);
    if (found.blocks.size() != shape_.blocks) {
      status =
          corruption(fmt::format("{} of {} blocks arrived", found.blocks.size(), shape_.blocks));
    }
    MEMPOOL_RETURN_IF_ERROR(agent_->unpin(found.blocks));
    return status;
  }

  Status clean(uint32_t repeat) override {
    std::vector<TokenId> first = tokens_of(shape_, repeat);
    first.resize(shape_.content.tokens_per_block);
    const size_t erased = agent_->erase({content_, first});
    if (erased == shape_.blocks) return Status();
    return internal_error(fmt::format("{} of {} blocks were erased", erased, shape_.blocks));
  }

  Result<std::vector<iovec>> lend_pieces() override {
    MEMPOOL_ASSIGN_OR_RETURN(lent_, agent_->alloc(shape_.blocks));
    return pieces_of(*agent_, shape_, lent_);
  }

  Status take_back() override { return agent_->free(std::exchange(lent_, {})); }

 private:
  /// Leave every other block free, so that no two free ones are neighbours.
  Status fragment(uint32_t blocks) {
    MEMPOOL_ASSIGN_OR_RETURN(std::vector<BlockAddress> all, agent_->alloc(blocks));
    std::erase_if(all, [](const BlockAddress& block) { return block.index() % 2 == 1; });
    return agent_->free(all);
  }

  Status check_blocks(const std::vector<BlockAddress>& blocks) {
    const uint64_t piece_bytes = agent_->layout().piece_bytes;
    std::vector<std::byte> bytes(agent_->layout().block_bytes);
    for (size_t position = 0; position < blocks.size(); ++position) {
      MEMPOOL_RETURN_IF_ERROR(agent_->read(blocks[position], bytes));
      for (uint32_t piece = 0; piece < shape_.pieces_per_block; ++piece) {
        const auto part = std::span(bytes).subspan(piece * piece_bytes, piece_bytes);
        if (!holds_piece(part, position, piece)) {
          return corruption(
              fmt::format("piece {} of block {} is not what was sent", piece, position));
        }
      }
    }
    return Status();
  }

  TransferShape shape_;
  std::unique_ptr<Agent> agent_;
  Content content_;
  std::vector<BlockAddress> lent_;
};

}  // namespace

Result<std::unique_ptr<MovingEnd>> open_writing_end(const TransferCase& measured,
                                                    const TransferSite& site,
                                                    const std::string& address) {
  return WritingEnd::open(measured, site, address);
}

Result<std::unique_ptr<ServingEnd>> open_written_end(const TransferCase& measured,
                                                     const TransferSite& site) {
  return WrittenEnd::open(measured, site);
}

}  // namespace mempool
