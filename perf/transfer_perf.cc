// SPDX-License-Identifier: Apache-2.0
// Owns the moving process of the transfer measurement: repeats, bare repeats, and the row.
#include "perf/transfer_perf.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/config_value.h"
#include "perf/bar_chart.h"
#include "perf/bare_copy.h"
#include "perf/bare_stream.h"
#include "perf/transfer_ends.h"
#include "perf/transfer_server.h"

namespace mempool {
namespace {

/// Samples of one way of moving, and the CPU time of both processes.
struct Samples {
  std::vector<double> gb_per_s;
  double cpu_s = 0;
};

/// Thread: confined.
class TransferPerf {
 public:
  TransferPerf(const TransferCase& measured, const TransferSite& site, Channel& channel)
      : measured_(measured), site_(site), channel_(channel) {}

  Status open() {
    MEMPOOL_ASSIGN_OR_RETURN(const ChannelMessage ready, await_answer(channel_));
    MEMPOOL_ASSIGN_OR_RETURN(
        BareStream stream, BareStream::connect(site_, static_cast<uint16_t>(ready.number),
                                               {measured_.send_buffer, measured_.receive_buffer}));
    stream_.emplace(std::move(stream));
    MEMPOOL_ASSIGN_OR_RETURN(end_, measured_.read ? open_reading_end(measured_, site_, ready.text)
                                                  : open_writing_end(measured_, site_, ready.text));
    pieces_ = merged(end_->pieces());
    if (copies_bare(measured_)) {
      const bool scattered = measured_.pattern != TransferPattern::kContiguous;
      MEMPOOL_ASSIGN_OR_RETURN(BareCopy copy, BareCopy::open(pieces_, scattered, measured_.read));
      copy_.emplace(std::move(copy));
    }
    return Status();
  }

  /// Run one repeat of each way; repeat 0 is checked and not counted.
  Status repeat(uint32_t number) {
    MEMPOOL_ASSIGN_OR_RETURN(const double before, cpu_of_both());
    MEMPOOL_ASSIGN_OR_RETURN(const MoveSample sample, end_->move(number));
    MEMPOOL_ASSIGN_OR_RETURN(const double after, cpu_of_both());
    if (number == 0) {
      MEMPOOL_RETURN_IF_ERROR(end_->check());
      MEMPOOL_RETURN_IF_ERROR(order(channel_, TransferOrder::kCheck, number).status());
    }
    MEMPOOL_RETURN_IF_ERROR(order(channel_, TransferOrder::kClean, number).status());
    MEMPOOL_ASSIGN_OR_RETURN(const std::pair bare, move_bare());
    if (number == 0) return Status();
    moves_.push_back(sample);
    const double gb = 1e-9 * static_cast<double>(sample.bytes);
    agent_.gb_per_s.push_back(gb / sample.seconds);
    agent_.cpu_s += after - before;
    bare_.gb_per_s.push_back(gb / bare.first);
    bare_.cpu_s += bare.second;
    return Status();
  }

  TransferRow row() const {
    TransferRow row;
    row.measured = measured_;
    row.pieces = shape_of(measured_)->pieces();
    row.gb_per_s = spread_of(agent_.gb_per_s);
    row.bare_gb_per_s = spread_of(bare_.gb_per_s);
    row.ratio_to_bare = row.gb_per_s.median / row.bare_gb_per_s.median;
    const MoveSample& last = moves_.back();
    const double gb = 1e-9 * static_cast<double>(last.bytes * moves_.size());
    row.cpu_s_per_gb = agent_.cpu_s / gb;
    row.bare_cpu_s_per_gb = bare_.cpu_s / gb;
    row.prepare_us = median(&MoveSample::prepare_us);
    row.post_us = median(&MoveSample::post_us);
    row.complete_us = median(&MoveSample::complete_us);
    row.connect_ms = end_->connect_us() * 1e-3;
    row.paper_calls = last.paper_calls;
    row.run_pair_calls = last.run_pair_calls;
    row.network_calls = last.network_calls;
    row.system_calls = last.system_calls;
    row.doorbells = last.doorbells;
    row.completions = last.completions;
    return row;
  }

 private:
  double median(double MoveSample::*field) const {
    std::vector<double> samples;
    for (const MoveSample& sample : moves_) samples.push_back(sample.*field);
    return spread_of(std::move(samples)).median;
  }

  Result<double> cpu_of_both() {
    MEMPOOL_ASSIGN_OR_RETURN(const ChannelMessage theirs, order(channel_, TransferOrder::kUsage));
    return cpu_seconds() + 1e-9 * static_cast<double>(theirs.number);
  }

  /// Give the seconds and the CPU seconds of one bare move.
  Result<std::pair<double, double>> move_bare() {
    if (copy_) {
      const double cpu_before = cpu_seconds();
      const Stopwatch watch;
      copy_->move();
      const double seconds = watch.seconds();
      return std::pair(seconds, cpu_seconds() - cpu_before);
    }
    MEMPOOL_RETURN_IF_ERROR(order(channel_, TransferOrder::kLend).status());
    MEMPOOL_ASSIGN_OR_RETURN(const double before, cpu_of_both());
    MEMPOOL_RETURN_IF_ERROR(
        channel_.send({static_cast<uint32_t>(TransferOrder::kBareMove), 0, {}}));
    char word = 0;
    const Stopwatch watch;
    if (measured_.read) {
      MEMPOOL_RETURN_IF_ERROR(stream_->send({{&word, 1}}));
      MEMPOOL_RETURN_IF_ERROR(stream_->receive(pieces_));
    } else {
      MEMPOOL_RETURN_IF_ERROR(stream_->send(pieces_));
      MEMPOOL_RETURN_IF_ERROR(stream_->receive({{&word, 1}}));
    }
    const double seconds = watch.seconds();
    MEMPOOL_ASSIGN_OR_RETURN(const double after, cpu_of_both());
    MEMPOOL_RETURN_IF_ERROR(order(channel_, TransferOrder::kTakeBack).status());
    return std::pair(seconds, after - before);
  }

  const TransferCase& measured_;
  const TransferSite& site_;
  Channel& channel_;
  std::unique_ptr<MovingEnd> end_;
  std::optional<BareStream> stream_;
  std::optional<BareCopy> copy_;  // in place of the stream
  std::vector<iovec> pieces_;
  std::vector<MoveSample> moves_;
  Samples agent_;
  Samples bare_;
};

Result<TransferRow> measure(const TransferCase& measured, const TransferSite& site,
                            Channel& channel, const OnRepeat& on_repeat) {
  TransferPerf perf(measured, site, channel);
  MEMPOOL_RETURN_IF_ERROR(perf.open());
  for (uint32_t number = 0; number <= measured.repeat; ++number) {
    on_repeat(number);
    MEMPOOL_RETURN_IF_ERROR(perf.repeat(number));
  }
  return perf.row();
}

constexpr size_t kCaseCells = 5;

std::vector<std::string> case_cells(const TransferRow& row) {
  const TransferCase& measured = row.measured;
  return {measured.read ? "read" : "write", std::string(to_string(measured.pattern)),
          fmt::format("{}", measured.piece_bytes), fmt::format("{}", row.pieces), measured.verify};
}

std::vector<std::string> figure_cells(const TransferRow& row) {
  return {to_text(row.gb_per_s, 2),
          to_text(row.bare_gb_per_s, 2),
          fmt::format("{:.2f}", row.ratio_to_bare),
          fmt::format("{:.1f}", row.connect_ms),
          fmt::format("{:.0f}", row.prepare_us),
          fmt::format("{:.0f}", row.post_us),
          fmt::format("{:.0f}", row.complete_us),
          fmt::format("{:.3f}", row.cpu_s_per_gb),
          fmt::format("{:.3f}", row.bare_cpu_s_per_gb),
          fmt::format("{}", row.paper_calls),
          fmt::format("{}", row.run_pair_calls),
          fmt::format("{}", row.network_calls),
          row.system_calls ? fmt::format("{}", *row.system_calls) : "-",
          row.doorbells > 0 ? fmt::format("{}", row.doorbells) : "-",
          row.completions > 0 ? fmt::format("{}", row.completions) : "-"};
}

/// What the rows differ in, which decides on columns and headings.
struct RowForm {
  bool transports = false;  // there are several
  bool refusals = false;    // there are some
  bool copies = true;       // every bare figure is memcpy's
};

RowForm form_of(const std::vector<TransferRow>& rows) {
  RowForm form;
  for (const TransferRow& row : rows) {
    form.transports |= row.measured.transport != rows.front().measured.transport;
    form.refusals |= !row.refused.ok();
    form.copies &= copies_bare(row.measured);
  }
  return form;
}

Status check_case(const TransferCase& measured) {
  MEMPOOL_RETURN_IF_ERROR(shape_of(measured).status());
  return measured.repeat > 0 ? Status() : invalid_argument("give at least 1 repeat");
}

}  // namespace

Result<TransferRow> run_transfer_perf(const TransferCase& measured, const TransferSite& site,
                                      const OnRepeat& on_repeat) {
  MEMPOOL_RETURN_IF_ERROR(check_case(measured));
  MEMPOOL_ASSIGN_OR_RETURN(ToldProcess target, start_serving(measured, site));
  return measure(measured, site, target.channel, on_repeat);
}

Result<TransferRow> run_transfer_perf(const TransferCase& measured, ServiceLink& target,
                                      const OnRepeat& on_repeat) {
  MEMPOOL_RETURN_IF_ERROR(check_case(measured));
  MEMPOOL_RETURN_IF_ERROR(target.channel.send(
      {static_cast<uint32_t>(TransferOrder::kBegin), kServiceVersion, print_case(measured)}));
  return measure(measured, target.site, target.channel, on_repeat);
}

TransferRow refused_row(const TransferCase& measured, const Status& why) {
  TransferRow row;
  row.measured = measured;
  row.refused = why;
  const Result<TransferShape> shape = shape_of(measured);
  row.pieces = shape.ok() ? shape->pieces() : measured.pieces;
  return row;
}

nlohmann::ordered_json to_json(const TransferRow& row) {
  const TransferCase& measured = row.measured;
  nlohmann::ordered_json json = {{"transport", measured.transport},
                                 {"op", measured.read ? "read" : "write"},
                                 {"through", measured.read ? "endpoint" : "agent"},
                                 {"pattern", to_string(measured.pattern)},
                                 {"piece_bytes", measured.piece_bytes},
                                 {"pieces", row.pieces},
                                 {"streams", measured.streams},
                                 {"verify", measured.verify}};
  if (!row.refused.ok()) {
    json["refused"] = {{"code", status_code_name(row.refused.code())},
                       {"reason", row.refused.message()}};
    return json;
  }
  json.update({{"gb_per_s", to_json(row.gb_per_s)},
               {"connect_ms", row.connect_ms},
               {"prepare_us", row.prepare_us},
               {"post_us", row.post_us},
               {"complete_us", row.complete_us},
               {"cpu_s_per_gb", row.cpu_s_per_gb},
               {"paper_calls", row.paper_calls},
               {"run_pair_calls", row.run_pair_calls},
               {"network_calls", row.network_calls},
               {"system_calls", nullptr},
               {"doorbells", row.doorbells},
               {"completions", row.completions},
               {"bare", copies_bare(measured) ? "memcpy" : "stream"},
               {"bare_gb_per_s", to_json(row.bare_gb_per_s)},
               {"bare_cpu_s_per_gb", row.bare_cpu_s_per_gb},
               {"ratio_to_bare", row.ratio_to_bare}});
  if (row.system_calls) json["system_calls"] = *row.system_calls;
  return json;
}

TextTable transfer_table(const std::vector<TransferRow>& rows) {
  const RowForm form = form_of(rows);
  std::vector<std::string> headings = {"op",
                                       "pattern",
                                       "piece",
                                       "pieces",
                                       "verify",
                                       "GB/s",
                                       form.copies ? "memcpy GB/s" : "bare GB/s",
                                       "ratio",
                                       "connect ms",
                                       "prepare us",
                                       "post us",
                                       "complete us",
                                       "cpu s/GB",
                                       "bare",
                                       "paper",
                                       "run pairs",
                                       "network",
                                       "system",
                                       "doorbells",
                                       "completions"};
  const size_t figures = headings.size() - kCaseCells;
  if (form.transports) headings.insert(headings.begin(), "transport");
  if (form.refusals) headings.push_back("refused");
  TextTable table(std::move(headings));
  for (const TransferRow& row : rows) {
    std::vector<std::string> cells = case_cells(row);
    std::vector<std::string> more =
        row.refused.ok() ? figure_cells(row) : std::vector<std::string>(figures, "-");
    std::ranges::move(more, std::back_inserter(cells));
    if (form.transports) cells.insert(cells.begin(), row.measured.transport);
    if (form.refusals) cells.push_back(row.refused.ok() ? "" : row.refused.to_string());
    table.add_row(std::move(cells));
  }
  return table;
}

std::string transfer_plot(const std::vector<TransferRow>& rows) {
  const RowForm form = form_of(rows);
  std::vector<BarPair> pairs;
  for (const TransferRow& row : rows) {
    if (!row.refused.ok()) continue;
    const TransferCase& measured = row.measured;
    pairs.push_back(
        {fmt::format("{}{} {} {}, verify {}", form.transports ? measured.transport + " " : "",
                     measured.read ? "read" : "write", to_string(measured.pattern),
                     print_size(measured.piece_bytes), measured.verify),
         row.gb_per_s.median, row.bare_gb_per_s.median});
  }
  const TransferCase& first = rows.front().measured;
  return bar_chart(fmt::format("mempool{} (dark) and a bare {}",
                               form.transports ? "" : " over " + first.transport,
                               form.copies ? "memcpy" : "stream"),
                   "GB/s", pairs);
}

}  // namespace mempool
