// SPDX-License-Identifier: Apache-2.0
// Owns what the measurements of `mempool perf` share on the command line.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/command.h"
#include "perf/measure.h"
#include "perf/transfer_case.h"

namespace mempool {

Command add_perf_alloc_command(CLI::App& perf);
Command add_perf_index_command(CLI::App& perf);
Command add_perf_latency_command(CLI::App& perf);
Command add_perf_layers_command(CLI::App& perf);
Command add_perf_matrix_command(CLI::App& perf);
Command add_perf_serve_command(CLI::App& perf);
Command add_perf_transfer_command(CLI::App& perf);

/// Give the secret of the settings. Errors: those of shared_token().
Result<std::string> token_of(const Config& config);
/// Give what the settings say of this end: the secret and the transports' options. Errors:
/// likewise.
Result<TransferSite> site_of(const Config& config);

/// Refuse a file that cannot be written before anything is measured; "-" is none.
std::string check_output_file(const std::string& path);

/// Give where `--json FILE` will point, once parsed.
std::shared_ptr<std::string> add_json_option(CLI::App& app);

/// Print the text, a table and what is behind it, or write the rows where `--json` points; both for
/// a file.
int report(const std::string& text, const nlohmann::ordered_json& rows, const std::string& json);

}  // namespace mempool
