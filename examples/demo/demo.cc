// SPDX-License-Identifier: Apache-2.0
// Owns the demo's main program: plan by the machine's memory, run the rows, tell the results.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/check.h"
#include "core/memory_room.h"
#include "examples/demo/conversations.h"
#include "examples/demo/demo_options.h"
#include "examples/demo/demo_report.h"
#include "examples/demo/demo_row.h"
#include "examples/demo/models.h"
#include "examples/demo/progress.h"
#include "examples/demo/roles.h"
#include "examples/demo/statistics.h"
#include "examples/demo/trace_reader.h"

namespace mempool::demo {
namespace {

/// A mode and a placement, as the rows have them.
struct Way {
  const char* mode;
  const char* placement;
};
constexpr Way kWays[] = {
    {"by_layer", "discrete"}, {"by_request", "discrete"}, {"by_request", "aggregated"}};

constexpr uint64_t kPoolBytesMost = uint64_t{3} << 30;

Result<uint64_t> pool_bytes_of(const DemoOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t available, available_memory_bytes());
  if (options.pool_bytes == 0) return std::min(kPoolBytesMost, available / 4);
  if (options.pool_bytes <= available / 2) return options.pool_bytes;
  return resource_exhausted(fmt::format(
      "two pools of {} GB are asked for, the machine and its cgroups have {} GB left: give a "
      "smaller --pool-bytes",
      gigabytes(options.pool_bytes), gigabytes(available)));
}

Result<std::vector<std::vector<TokenId>>> prompts_of(const DemoOptions& options) {
  if (!options.trace.empty()) return read_trace(options.trace, options.scale, options.requests);
  ConversationOptions conversations;
  conversations.seed = options.seed;
  conversations.requests = options.requests;
  return draw_conversations(conversations);
}

std::string workload_name(const DemoOptions& options) {
  if (options.trace.empty()) return fmt::format("conversations of seed {}", options.seed);
  return fmt::format("{} at 1/{}", options.trace, options.scale);
}

/// The rows in their order. By layer there is one placement: what the engine writes while it runs
/// is discrete.
std::vector<RowSpec> plan_rows(const DemoOptions& options, uint64_t pool_bytes) {
  std::vector<RowSpec> plan;
  for (const ContentSpec& spec : models()) {
    const bool asked =
        options.model == "all" ? is_shown_unasked(spec) : options.model == spec.model;
    if (!asked) continue;
    for (const std::string& transport : options.transports) {
      for (const auto& [mode, placement] : kWays) {
        if (std::ranges::find(options.modes, mode) == options.modes.end()) continue;
        plan.push_back({spec.model, transport, mode, placement, options.memory, pool_bytes,
                        options.move_bytes, options.corrupt_request, options.prefill,
                        options.decode});
      }
    }
  }
  return plan;
}

/// Run the rows into `rows`, up to the first that fails. Errors: also kUnavailable when rows were
/// refused.
Status run_rows(const DemoOptions& options, uint64_t pool_bytes,
                std::span<const std::vector<TokenId>> prompts, std::vector<RowResult>& rows) {
  Progress progress(isatty(STDERR_FILENO) == 1);
  size_t refused = 0;
  for (const RowSpec& spec : plan_rows(options, pool_bytes)) {
    RowOutcome outcome = run_row(spec, prompts, progress);
    const std::string name = name_of(outcome.row);
    if (!outcome.row.refused.empty()) ++refused;
    rows.push_back(std::move(outcome.row));
    MEMPOOL_RETURN_IF_ERROR(outcome.status.with_context(name));
  }
  if (refused == 0) return Status();
  return unavailable(fmt::format("rows that their transport refused: {}, of {}; see the table",
                                 refused, rows.size()));
}

Status check_file(const std::ofstream& file, const std::string& path) {
  if (file) return Status();
  return unavailable(fmt::format("{}: cannot write it: {}", path, std::strerror(errno)));
}

Status run_demo(const DemoOptions& options) {
  MEMPOOL_ASSIGN_OR_RETURN(const PaperCalls paper_calls, count_paper_calls());
  MEMPOOL_ASSIGN_OR_RETURN(const uint64_t pool_bytes, pool_bytes_of(options));
  MEMPOOL_ASSIGN_OR_RETURN(const std::vector<std::vector<TokenId>> prompts, prompts_of(options));
  std::ofstream json;
  if (!options.json.empty()) {
    json.open(options.json);  // now, since a path that is wrong must not cost the rows
    MEMPOOL_RETURN_IF_ERROR(check_file(json, options.json));
  }
  fmt::print("{}: {}.\nEach {} of {} GB; a row ends after {} GB or all prompts.\n\n",
             workload_name(options),
             to_string(prompt_statistics(prompts, models().front().tokens_per_block)),
             options.memory == "engine" ? "engine has tensors" : "agent has a pool",
             gigabytes(pool_bytes), gigabytes(options.move_bytes));
  std::fflush(stdout);
  std::vector<RowResult> rows;
  const Status status = run_rows(options, pool_bytes, prompts, rows);
  const bool any = std::any_of(rows.begin(), rows.end(), [](const RowResult& row) {
    return row.requests > 0 || !row.refused.empty();
  });
  if (any) fmt::print("{}", report_text(rows, paper_calls));
  if (options.json.empty()) return status;
  json << report_json(rows, paper_calls) << std::flush;
  const Status written = check_file(json, options.json);
  return status.ok() ? written : status;
}

}  // namespace
}  // namespace mempool::demo

int main(int argc, char** argv) {
  using namespace mempool::demo;
  std::signal(SIGPIPE, SIG_IGN);  // a role that died is an error of write(), said in one line
  DemoOptions options;
  if (const std::optional<int> exit_code = parse_options(argc, argv, options)) return *exit_code;
  if (!options.role.empty()) return run_role(options.role);
  const mempool::Status status = run_demo(options);
  if (status.ok()) return 0;
  fmt::print(stderr, "mempool_demo: {}\n", status.message());
  return 1;
}
