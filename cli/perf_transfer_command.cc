// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf transfer`.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "cli/transfer_arguments.h"
#include "core/check.h"
#include "core/config.h"
#include "perf/transfer_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Between two processes: a fork of this one, or with --to the mempool perf serve of another
host. A write is transfer_with_insert between two agents; a read goes over the transport's raw
endpoints, since an agent only pushes. Beside each, in turns, a bare sendmsg/recvmsg moves the same
list over one connection between the same two; ratio is to that. For shm it is a bare memcpy of the
same list by one thread. Connecting is timed once, apart.

Of --config and --set this end takes its token and what its NICs need ([verbs], [ucx]); the other
end has its own. tcp and shm are set by the options above, for both.

A transport that cannot do a case gives a row with its refusal. The exit code is 1 when none could.

Patterns:
  scattered   one piece a block, no two neighbours in memory on either side
  contiguous  one piece a block, all in one run
  discrete    64 pieces a block (K and V of 32 layers apart), blocks scattered
  aggregated  the same 64 pieces in one run, blocks scattered
  discrete_here, discrete_there
              discrete at the measured side and aggregated at the other, or the other way round

Examples:
  mempool perf transfer --piece-bytes 4KiB,32KiB,160KiB
  mempool perf transfer --piece-bytes 32KiB --pieces 8192 --verify off,sampled,always
  mempool perf transfer --transports shm,tcp --op write,read
  mempool perf transfer --op read --pattern discrete,aggregated --json rows.json
  mempool perf transfer --transports verbs --set verbs.devices=mlx5_0 --piece-bytes 1MiB
  mempool perf transfer --to 10.0.0.7:7171 --config perf.toml --transports tcp,shm)";

struct RunArguments {
  TransferArguments transfer;
  SettingArguments settings;
  std::string to;
  std::string plot;
};

/// Measure a case between this process and a fork of it, or the service at `to`.
Result<TransferRow> run_case(const TransferCase& measured, const TransferSite& own,
                             Result<ServiceLink>* target, const OnRepeat& on_repeat) {
  if (target == nullptr) return run_transfer_perf(measured, own, on_repeat);
  MEMPOOL_RETURN_IF_ERROR(target->status());
  return run_transfer_perf(measured, **target, on_repeat);
}

/// Measure each case; one that cannot be becomes a row that says why. Errors: kCorruption, which is
/// no refusal; what keeps the first case from the other host, for no case could do better.
Result<std::vector<TransferRow>> run_cases(const std::vector<TransferCase>& cases,
                                           const std::string& to, const TransferSite& own) {
  std::vector<TransferRow> rows;
  for (const TransferCase& measured : cases) {
    std::optional<Result<ServiceLink>> target;
    if (!to.empty()) target.emplace(dial_service(to, own));
    if (target && rows.empty()) MEMPOOL_RETURN_IF_ERROR(target->status());
    ProgressLine progress;
    const std::string what = fmt::format("row {} of {}, repeat", rows.size() + 1, cases.size());
    Result<TransferRow> row =
        run_case(measured, own, target ? &*target : nullptr,
                 [&](uint32_t repeat) { progress.show(what, repeat, measured.repeat); });
    if (row.status().code() == StatusCode::kCorruption) return row.status();
    rows.push_back(row.ok() ? std::move(*row) : refused_row(measured, row.status()));
  }
  return rows;
}

int run_transfer(const RunArguments& arguments, const std::string& json) {
  const Result<std::vector<TransferCase>> cases = cases_of(arguments.transfer);
  if (!cases.ok()) return fail(cases.status());
  const Result<Config> config = load_settings(arguments.settings);
  const Result<TransferSite> own = config.ok() ? site_of(*config) : config.status();
  if (!own.ok()) return fail(own.status());
  const Result<std::vector<TransferRow>> rows = run_cases(*cases, arguments.to, *own);
  if (!rows.ok()) return fail(rows.status());
  nlohmann::ordered_json json_rows = nlohmann::ordered_json::array();
  for (const TransferRow& row : *rows) json_rows.push_back(to_json(row));
  const int reported = report(transfer_table(*rows).text(), json_rows, json);
  if (reported != kExitOk) return reported;
  if (std::ranges::none_of(*rows, &Status::ok, &TransferRow::refused)) {
    return fail(
        unavailable(fmt::format("no row could be measured: {}", rows->front().refused.message())));
  }
  if (arguments.plot.empty()) return kExitOk;
  const Status written = write_text(arguments.plot, transfer_plot(*rows));
  return written.ok() ? kExitOk : fail(written);
}

}  // namespace

Command add_perf_transfer_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("transfer", "Measure transfers between two processes");
  auto arguments = std::make_shared<RunArguments>();  // shared by the parser and run
  add_transfer_options(*app, arguments->transfer);
  app->add_option("--to", arguments->to, "Measure towards a mempool perf serve")
      ->type_name("HOST:PORT");
  add_setting_options(*app, arguments->settings);
  app->add_option("--plot", arguments->plot, "Draw the rows beside the bare ones as SVG")
      ->type_name("FILE")
      ->check(check_output_file);
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [arguments, json] { return run_transfer(*arguments, *json); }};
}

}  // namespace mempool
