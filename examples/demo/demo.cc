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

/// Run the rows into `rows`, up to the first that fails.
Status run_rows(const DemoOptions& options, uint64_t pool_bytes,
                std::span<const std::vector<TokenId>> prompts, std::vector<RowResult>& rows) {
  Progress progress(isatty(STDERR_FILENO) == 1);
  for (const ContentSpec& spec : models()) {
    if (options.model != "all" && options.model != spec.model) continue;
    for (const char* placement : {"discrete", "aggregated"}) {
      RowOutcome outcome = run_row({options.transport, spec.model, placement, pool_bytes,
                                    options.move_bytes, options.corrupt_request},
                                   prompts, progress);
      rows.push_back(std::move(outcome.row));
      if (!outcome.status.ok()) {
        return outcome.status.with_context(fmt::format("{} {}", spec.model, placement));
      }
    }
  }
  return Status();
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
  fmt::print("{}: {}.\nEach agent has a pool of {} GB; a row ends after {} GB or all prompts.\n\n",
             workload_name(options),
             to_string(prompt_statistics(prompts, models().front().tokens_per_block)),
             gigabytes(pool_bytes), gigabytes(options.move_bytes));
  std::fflush(stdout);
  std::vector<RowResult> rows;
  const Status status = run_rows(options, pool_bytes, prompts, rows);
  const bool any =
      std::any_of(rows.begin(), rows.end(), [](const RowResult& row) { return row.requests > 0; });
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
