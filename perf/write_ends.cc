// SPDX-License-Identifier: Apache-2.0
// Owns the two ends of a measured write: transfer_with_insert between two agents.
#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "mempool/agent.h"
#include "perf/measure.h"
#include "perf/transfer_ends.h"

namespace mempool {
namespace {

constexpr char kTargetName[] = "target";
constexpr std::chrono::milliseconds kDeadline{60000};

AgentOptions agent_options_of(const TransferCase& measured, const TransferShape& shape,
                              uint32_t blocks) {
  AgentOptions options;
  options.transports = {measured.transport};
  options.require = options.transports;
  options.transport_options = transport_options(measured);
  options.content = shape.content;
  options.placement = shape.placement;
  options.segment_blocks = {blocks};
  options.verify = measured.verify;
  options.deliver_arrivals = false;
  return options;
}

/// Give a list's pieces as a plan walks them: by layer and part where these lie apart, else by
/// block.
Result<std::vector<iovec>> pieces_of(const Agent& agent, const TransferShape& shape,
                                     const std::vector<BlockAddress>& blocks) {
  const BlockLayout& layout = agent.layout();
  std::vector<iovec> result;
  result.reserve(shape.pieces());
  const auto add = [&](size_t block, uint32_t piece) -> Status {
    MEMPOOL_ASSIGN_OR_RETURN(
        const std::span<std::byte> bytes,
        agent.piece(blocks[block], piece / layout.parts, piece % layout.parts));
    result.push_back({bytes.data(), bytes.size()});
    return Status();
  };
  const bool by_block = shape.placement.form == BlockForm::kAggregated;
  const size_t outer = by_block ? blocks.size() : shape.pieces_per_block;
  const size_t inner = by_block ? shape.pieces_per_block : blocks.size();
  for (size_t i = 0; i < outer; ++i) {
    for (size_t j = 0; j < inner; ++j) {
      MEMPOOL_RETURN_IF_ERROR(add(by_block ? i : j, static_cast<uint32_t>(by_block ? j : i)));
    }
  }
  return result;
}

/// Thread: confined.
class WritingEnd : public MovingEnd {
 public:
  static Result<std::unique_ptr<MovingEnd>> open(const TransferCase& measured,
                                                 const std::string& address) {
    auto end = std::make_unique<WritingEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    AgentOptions options = agent_options_of(measured, end->shape_, end->shape_.blocks);
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
    const std::vector<TokenId> tokens = tokens_of(shape_, repeat);
    TransferOptions options;
    options.deadline = kDeadline;
    const Stopwatch watch;
    MEMPOOL_ASSIGN_OR_RETURN(
        const Transfer transfer,
        agent_->transfer_with_insert(kTargetName, {content_, tokens}, blocks_, options));
    MEMPOOL_RETURN_IF_ERROR(transfer.wait());
    const double seconds = watch.seconds();
    const TransferReport report = transfer.report();
    if (connect_us_ == 0) connect_us_ = report.prepare_us;  // it dialed before the offer
    if (report.bytes_saved != 0) {
      return internal_error("the target had part of a fresh prompt; nothing was measured");
    }
    return MoveSample{seconds,
                      report.prepare_us,
                      report.post_us,
                      report.complete_us,
                      report.bytes,
                      report.paper_calls,
                      report.run_pair_calls,
                      report.network_calls,
                      report.system_calls};
  }

  double connect_us() const override { return connect_us_; }
  std::vector<iovec> pieces() const override { return pieces_; }
  Status check() const override { return Status(); }

 private:
  Status fill() {
    const BlockLayout& layout = agent_->layout();
    for (size_t position = 0; position < blocks_.size(); ++position) {
      for (uint32_t piece = 0; piece < shape_.pieces_per_block; ++piece) {
        MEMPOOL_ASSIGN_OR_RETURN(
            const std::span<std::byte> bytes,
            agent_->piece(blocks_[position], piece / layout.parts, piece % layout.parts));
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
  static Result<std::unique_ptr<ServingEnd>> open(const TransferCase& measured) {
    auto end = std::make_unique<WrittenEnd>();
    MEMPOOL_ASSIGN_OR_RETURN(end->shape_, shape_of(measured));
    const uint32_t blocks = end->shape_.blocks * (end->shape_.scattered ? 2 : 1);
    AgentOptions options = agent_options_of(measured, end->shape_, blocks);
    options.name = kTargetName;
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
                                                    const std::string& address) {
  return WritingEnd::open(measured, address);
}

Result<std::unique_ptr<ServingEnd>> open_written_end(const TransferCase& measured) {
  return WrittenEnd::open(measured);
}

}  // namespace mempool
