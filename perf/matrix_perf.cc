// SPDX-License-Identifier: Apache-2.0
// Owns the order to measure, given to one host after the other, and what is made of the answers.
#include "perf/matrix_perf.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/listen_socket.h"
#include "perf/measure.h"
#include "perf/service_link.h"
#include "perf/transfer_perf.h"
#include "perf/transfer_server.h"

namespace mempool {
namespace {

/// Put what the host answered into the cell. Errors: kInvalidArgument for what is no row.
Status read_row(const std::string& text, MatrixCell& cell) {
  try {
    cell.row = nlohmann::ordered_json::parse(text);
    cell.row.at("gb_per_s").at("median").get_to(cell.gb_per_s);
  } catch (const nlohmann::json::exception& error) {
    return invalid_argument(fmt::format("malformed row: {}", error.what()));
  }
  return Status();
}

/// Have the host at `from` measure towards the one at `to`.
Status measure_pair(const std::string& from, const std::string& to, const std::string& token,
                    const TransferCase& measured, MatrixCell& cell, const OnPairRepeat& on_repeat) {
  MEMPOOL_ASSIGN_OR_RETURN(ServiceLink link, dial_service(from, {.token = token}));
  MEMPOOL_RETURN_IF_ERROR(link.channel.send({static_cast<uint32_t>(TransferOrder::kMeasure),
                                             kServiceVersion, to + "\n" + print_case(measured)}));
  for (;;) {
    MEMPOOL_ASSIGN_OR_RETURN(const ChannelMessage answer, await_answer(link.channel));
    const auto kind = static_cast<TransferOrder>(answer.kind);
    if (kind == TransferOrder::kRow) return read_row(answer.text, cell);
    if (kind != TransferOrder::kProgress) return invalid_argument("no answer to a measurement");
    on_repeat(cell.from, cell.to, static_cast<uint32_t>(answer.number));
  }
}

/// The cell's fields before those of its row.
void name_pair(MatrixCell& cell) {
  nlohmann::ordered_json named = {{"from", cell.from}, {"to", cell.to}};
  named.update(cell.row);
  cell.row = std::move(named);
}

}  // namespace

Status check_matrix_hosts(const std::map<std::string, std::string>& hosts) {
  if (hosts.size() < 2) {
    return invalid_argument(fmt::format(
        "[peers] names {} hosts; a matrix needs 2 or more, each as name = \"host:port\"",
        hosts.size()));
  }
  std::map<std::string, std::string> names;
  for (const auto& [name, address] : hosts) {
    std::string host;
    uint16_t port = 0;
    MEMPOOL_RETURN_IF_ERROR(split_address(address, host, port).with_context("peers." + name));
    const auto [same, fresh] = names.emplace(address, name);
    if (!fresh) {
      return invalid_argument(fmt::format("peers.{} and peers.{} are both {}; leave one out",
                                          same->second, name, address));
    }
  }
  return Status();
}

Matrix run_matrix_perf(const std::map<std::string, std::string>& hosts,
                       const TransferCase& measured, const std::string& token,
                       const OnPairRepeat& on_repeat) {
  Matrix matrix{measured, {}, {}};
  for (const auto& [from, from_address] : hosts) {
    matrix.names.push_back(from);
    for (const auto& [to, to_address] : hosts) {
      if (from == to) continue;
      MatrixCell cell{from, to, {}, 0, {}};
      cell.refused = measure_pair(from_address, to_address, token, measured, cell, on_repeat);
      if (!cell.refused.ok()) cell.row = to_json(refused_row(measured, cell.refused));
      name_pair(cell);
      matrix.cells.push_back(std::move(cell));
    }
  }
  return matrix;
}

std::string matrix_text(const Matrix& matrix) {
  std::vector<std::string> headings = {"from \\ to"};
  headings.insert(headings.end(), matrix.names.begin(), matrix.names.end());
  TextTable table(std::move(headings));
  std::string reasons;
  auto cell = matrix.cells.begin();
  for (const std::string& from : matrix.names) {
    std::vector<std::string> cells = {from};
    for (const std::string& to : matrix.names) {
      if (from == to) {
        cells.push_back("-");
        continue;
      }
      cells.push_back(cell->refused.ok() ? fmt::format("{:.2f}", cell->gb_per_s) : "failed");
      if (!cell->refused.ok()) {
        reasons += fmt::format("{} to {}: {}\n", from, to, cell->refused.to_string());
      }
      ++cell;
    }
    table.add_row(std::move(cells));
  }
  return fmt::format("{}: GB/s, median\n{}{}", describe(matrix.measured), table.text(), reasons);
}

HeatMap heat_map_of(const Matrix& matrix) {
  HeatMap map{
      describe(matrix.measured) + ": GB/s, median, from the left to the top", matrix.names, {}};
  auto cell = matrix.cells.begin();
  for (const std::string& from : matrix.names) {
    auto& row = map.values.emplace_back();
    for (const std::string& to : matrix.names) {
      row.emplace_back();
      if (from == to) continue;
      if (cell->refused.ok()) row.back() = cell->gb_per_s;
      ++cell;
    }
  }
  return map;
}

}  // namespace mempool
