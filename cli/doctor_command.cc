// SPDX-License-Identifier: Apache-2.0
// Owns `mempool doctor`: what this machine gives an agent, and the mend for what it does not.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/agent_config.h"
#include "cli/command.h"
#include "cli/doctor_check.h"
#include "core/check.h"
#include "core/config.h"
#include "perf/measure.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Each check tries the thing itself: binds, makes and seals memory, connects. Settings
come from FILE, MEMPOOL_SECTION_KEY variables and --set, as `mempool agent` reads them; run it as
the agent's user, in its container, before the agent: a running one has taken its memory. A `*`
marks what an agent of these settings cannot start without: all that agent.require names, or one of
agent.transports where it names none; memory and descriptors for the pool. Rows of single devices
are never marked: a transport opens with what it finds.

Examples:
  mempool doctor
  mempool doctor --config prefill.toml --set pool.bytes=64GiB
  mempool doctor --config prefill.toml --json

Exit codes: 0 what the settings need works, 1 something of it does not, 2 wrong usage.)";

struct DoctorArguments : SettingArguments {
  bool json = false;
};

std::string_view state_text(CheckState state) {
  if (state == CheckState::kUnknown) return "unknown";
  return state == CheckState::kOk ? "ok" : "no";
}

Result<AgentOptions> load_options(const DoctorArguments& arguments) {
  MEMPOOL_ASSIGN_OR_RETURN(const Config config, load_settings(arguments));
  return agent_options(config);
}

void print_checks(const std::vector<DoctorCheck>& checks) {
  TextTable table({"check", "state", "found", "mend"});
  for (const DoctorCheck& check : checks) {
    table.add_row({check.name + (check.needed ? " *" : ""), std::string(state_text(check.state)),
                   check.found, check.mend});
  }
  fmt::print("{}", table.text());
}

void print_checks_json(const std::vector<DoctorCheck>& checks, bool works) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const DoctorCheck& check : checks) {
    rows.push_back({{"check", check.name},
                    {"state", state_text(check.state)},
                    {"needed", check.needed},
                    {"found", check.found},
                    {"mend", check.mend}});
  }
  const nlohmann::ordered_json document = {{"ok", works}, {"checks", rows}};
  fmt::print("{}\n", document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

int run_doctor(const DoctorArguments& arguments) {
  const Result<AgentOptions> options = load_options(arguments);
  if (!options.ok()) return fail(options.status());
  std::vector<DoctorCheck> checks = check_transports(*options);
  for (DoctorCheck& check : check_machine(*options)) checks.push_back(std::move(check));
  const bool works = std::ranges::none_of(checks, [](const DoctorCheck& check) {
    return check.needed && check.state != CheckState::kOk;
  });
  if (arguments.json) {
    print_checks_json(checks, works);
  } else {
    print_checks(checks);
  }
  return works ? kExitOk : kExitFailure;
}

}  // namespace

Command add_doctor_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("doctor", "Try what this machine gives an agent");
  auto arguments = std::make_shared<DoctorArguments>();  // shared by the parser and run
  add_setting_options(*app, *arguments);
  app->add_flag("--json", arguments->json, "Print the checks as JSON");
  app->footer(kHelp);
  return {app, [arguments] { return run_doctor(*arguments); }};
}

}  // namespace mempool
