// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf transfer`.
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Validators.hpp>
#include <nlohmann/json.hpp>

#include "cli/perf_command.h"
#include "core/check.h"
#include "core/config_value.h"
#include "perf/transfer_perf.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Two processes on this machine. A write is transfer_with_insert between two agents; a
read goes over the transport's raw endpoints, since an agent only pushes. Beside each, in turns, a
bare sendmsg/recvmsg moves the same list over one loopback connection; ratio is to that. For shm
it is a bare memcpy of the same list by one thread. Connecting is timed once, apart.

Patterns:
  scattered   one piece a block, no two neighbours in memory on either side
  contiguous  one piece a block, all in one run
  discrete    64 pieces a block (K and V of 32 layers apart), blocks scattered
  aggregated  the same 64 pieces in one run, blocks scattered

Examples:
  mempool perf transfer --piece-bytes 4KiB,32KiB,160KiB
  mempool perf transfer --piece-bytes 32KiB --pieces 8192 --verify off,sampled,always
  mempool perf transfer --transport shm --op write,read
  mempool perf transfer --op read --pattern discrete,aggregated --json rows.json)";

struct TransferArguments {
  TransferCase shared;
  std::vector<std::string> ops = {"write"};
  std::vector<std::string> piece_bytes = {"4KiB", "32KiB", "160KiB"};
  std::vector<std::string> patterns = {"scattered"};
  std::vector<std::string> verify = {"off"};
  std::string send_buffer = "0";
  std::string receive_buffer = "0";
  std::string plot;
};

/// Give one case for each combination of what was listed.
Result<std::vector<TransferCase>> cases_of(const TransferArguments& arguments) {
  std::vector<TransferCase> cases;
  TransferCase measured = arguments.shared;
  MEMPOOL_ASSIGN_OR_RETURN(measured.send_buffer, parse_size(arguments.send_buffer));
  MEMPOOL_ASSIGN_OR_RETURN(measured.receive_buffer, parse_size(arguments.receive_buffer));
  for (const std::string& op : arguments.ops) {
    measured.read = op == "read";
    for (const std::string& pattern : arguments.patterns) {
      MEMPOOL_ASSIGN_OR_RETURN(measured.pattern, parse_transfer_pattern(pattern));
      for (const std::string& bytes : arguments.piece_bytes) {
        MEMPOOL_ASSIGN_OR_RETURN(measured.piece_bytes, parse_size(bytes));
        for (const std::string& verify : arguments.verify) {
          measured.verify = verify;
          if (measured.read && verify != "off") {
            return invalid_argument(
                "a raw read seals nothing; measure --op read with --verify off");
          }
          MEMPOOL_RETURN_IF_ERROR(shape_of(measured).status());
          cases.push_back(measured);
        }
      }
    }
  }
  return cases;
}

int run_transfer(const TransferArguments& arguments, const std::string& json) {
  const Result<std::vector<TransferCase>> cases = cases_of(arguments);
  if (!cases.ok()) return fail(cases.status());
  std::vector<TransferRow> rows;
  nlohmann::ordered_json json_rows = nlohmann::ordered_json::array();
  for (const TransferCase& measured : *cases) {
    ProgressLine progress;
    const std::string what = fmt::format("row {} of {}, repeat", rows.size() + 1, cases->size());
    Result<TransferRow> row = run_transfer_perf(
        measured, [&](uint32_t repeat) { progress.show(what, repeat, measured.repeat); });
    if (!row.ok()) return fail(row.status());
    rows.push_back(std::move(*row));
    json_rows.push_back(to_json(rows.back()));
  }
  if (!arguments.plot.empty()) {
    const Status written = write_text(arguments.plot, transfer_plot(rows));
    if (!written.ok()) return fail(written);
  }
  return report(transfer_table(rows), json_rows, json);
}

}  // namespace

Command add_perf_transfer_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("transfer", "Measure transfers between two processes");
  auto arguments = std::make_shared<TransferArguments>();  // shared by the parser and run
  TransferCase& shared = arguments->shared;
  app->add_option("--transport", shared.transport, "Transport")->capture_default_str();
  app->add_option("--op", arguments->ops, "write, read, or both as a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"write", "read"}))
      ->capture_default_str();
  app->add_option("--pattern", arguments->patterns, "How the pieces lie; may be a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"scattered", "contiguous", "discrete", "aggregated"}))
      ->capture_default_str();
  app->add_option("--piece-bytes", arguments->piece_bytes, "Bytes of one piece; may be a list")
      ->delimiter(',')
      ->type_name("SIZE")
      ->capture_default_str();
  app->add_option("--pieces", shared.pieces,
                  "Pieces of one move; 0: as many as make 256 MiB, at most 16384")
      ->capture_default_str();
  app->add_option("--repeat", shared.repeat, "Samples of each row")->capture_default_str();
  app->add_option("--verify", arguments->verify, "Seal checksums: off, sampled, always; a list")
      ->delimiter(',')
      ->check(CLI::IsMember({"off", "sampled", "always"}))
      ->capture_default_str();
  app->add_option("--streams", shared.streams, "Connections of tcp")->capture_default_str();
  app->add_option("--copy-threads", shared.copy_threads, "Threads of shm that share one list")
      ->capture_default_str();
  app->add_option("--send-buffer", arguments->send_buffer, "SO_SNDBUF; 0: the kernel's choice")
      ->type_name("SIZE")
      ->capture_default_str();
  app->add_option("--receive-buffer", arguments->receive_buffer, "SO_RCVBUF; likewise")
      ->type_name("SIZE")
      ->capture_default_str();
  app->add_option("--plot", arguments->plot, "Draw the rows beside the bare stream as SVG")
      ->type_name("FILE")
      ->check(check_output_file);
  auto json = add_json_option(*app);
  app->footer(kHelp);
  return {app, [arguments, json] { return run_transfer(*arguments, *json); }};
}

}  // namespace mempool
