// SPDX-License-Identifier: Apache-2.0
// Owns the parent process of the by-layer measurement.
#include "perf/layer_perf.h"

#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "perf/bare_stream.h"
#include "perf/transfer_ends.h"
#include "perf/transfer_server.h"

namespace mempool {
namespace {

constexpr double kMs = 1e-3;

/// The transfer's case with as many pieces as the tokens take.
Result<TransferCase> whole_case(const LayerCase& measured) {
  TransferCase transfer = measured.transfer;
  const bool by_layers = transfer.pattern == TransferPattern::kDiscrete ||
                         transfer.pattern == TransferPattern::kAggregated;
  if (transfer.read || !by_layers) {
    return invalid_argument("layers are written, in pattern discrete or aggregated");
  }
  if (measured.transfer.repeat == 0) return invalid_argument("give at least 1 repeat");
  MEMPOOL_ASSIGN_OR_RETURN(const TransferShape shape, shape_of(transfer));
  const uint32_t block_tokens = shape.content.tokens_per_block;
  if (measured.tokens == 0 || measured.tokens % block_tokens != 0) {
    return invalid_argument(
        fmt::format("{} tokens: give whole blocks of {}", measured.tokens, block_tokens));
  }
  transfer.pieces = uint64_t{measured.tokens} / block_tokens * shape.pieces_per_block;
  return transfer;
}

/// Check or forget what a repeat brought. Repeat 0 is only checked, never counted.
Status settle(Channel& channel, uint32_t repeat, bool check) {
  if (check) MEMPOOL_RETURN_IF_ERROR(order(channel, TransferOrder::kCheck, repeat).status());
  return order(channel, TransferOrder::kClean, repeat).status();
}

}  // namespace

Result<LayerRow> run_layer_perf(const LayerCase& measured,
                                const std::function<void(uint32_t repeat)>& on_repeat) {
  MEMPOOL_ASSIGN_OR_RETURN(const TransferCase transfer, whole_case(measured));
  MEMPOOL_ASSIGN_OR_RETURN(ToldProcess target, start_serving(transfer, {}));
  Channel& channel = target.channel;
  MEMPOOL_ASSIGN_OR_RETURN(const ChannelMessage ready, await_answer(channel));
  MEMPOOL_ASSIGN_OR_RETURN(const BareStream unused,
                           BareStream::connect({}, static_cast<uint16_t>(ready.number), {}));
  MEMPOOL_ASSIGN_OR_RETURN(const std::unique_ptr<MovingEnd> end,
                           open_writing_end(transfer, {}, ready.text));
  std::vector<double> alone;
  std::vector<double> tail;
  LayerRow row;
  for (uint32_t repeat = 0; repeat <= transfer.repeat; ++repeat) {
    on_repeat(repeat);
    MEMPOOL_ASSIGN_OR_RETURN(const MoveSample by_request, end->move(2 * repeat));
    MEMPOOL_RETURN_IF_ERROR(settle(channel, 2 * repeat, repeat == 0));
    MEMPOOL_ASSIGN_OR_RETURN(const MoveSample by_layer,
                             end->move_by_layer(2 * repeat + 1, measured.layer_time));
    MEMPOOL_RETURN_IF_ERROR(settle(channel, 2 * repeat + 1, repeat == 0));
    if (repeat == 0) continue;
    alone.push_back(by_request.complete_us * kMs);
    tail.push_back(by_layer.tail_us * kMs);
    row.bytes = by_layer.bytes;
  }
  row.measured = measured;
  row.layers = shape_of(transfer)->content.layers;
  row.alone_ms = spread_of(std::move(alone));
  row.tail_ms = spread_of(std::move(tail));
  row.hidden = 1 - row.tail_ms.median / row.alone_ms.median;
  return row;
}

nlohmann::ordered_json to_json(const LayerRow& row) {
  const TransferCase& transfer = row.measured.transfer;
  return {{"transport", transfer.transport},
          {"pattern", to_string(transfer.pattern)},
          {"piece_bytes", transfer.piece_bytes},
          {"tokens", row.measured.tokens},
          {"layers", row.layers},
          {"layer_ms", static_cast<double>(row.measured.layer_time.count()) * kMs},
          {"verify", transfer.verify},
          {"bytes", row.bytes},
          {"alone_ms", to_json(row.alone_ms)},
          {"tail_ms", to_json(row.tail_ms)},
          {"hidden", row.hidden}};
}

TextTable layer_table(const std::vector<LayerRow>& rows) {
  TextTable table({"transport", "pattern", "tokens", "layers", "layer ms", "verify", "MB",
                   "alone ms", "tail ms", "hidden"});
  for (const LayerRow& row : rows) {
    const TransferCase& transfer = row.measured.transfer;
    table.add_row(
        {transfer.transport, std::string(to_string(transfer.pattern)),
         fmt::format("{}", row.measured.tokens), fmt::format("{}", row.layers),
         fmt::format("{:.1f}", static_cast<double>(row.measured.layer_time.count()) * kMs),
         transfer.verify, fmt::format("{:.0f}", static_cast<double>(row.bytes) * 1e-6),
         to_text(row.alone_ms, 1), to_text(row.tail_ms, 1),
         fmt::format("{:.1f} %", row.hidden * 100)});
  }
  return table;
}

}  // namespace mempool
