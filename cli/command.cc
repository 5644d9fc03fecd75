// SPDX-License-Identifier: Apache-2.0
// Owns the form of an error on the terminal, and the options that several commands have.
#include "cli/command.h"

#include <fmt/format.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <cstdio>
#include <string>

namespace mempool {

void print_error(std::string_view message) {
  std::string line(message);
  std::ranges::replace(line, '\n', ' ');
  fmt::print(stderr, "mempool: {}\n", line);
}

void add_setting_options(CLI::App& app, SettingArguments& into) {
  app.add_option("--config", into.file, "TOML file with the settings")->type_name("FILE");
  app.add_option("--set", into.settings, "Override one setting; may be repeated")
      ->type_name("SECTION.KEY=VALUE")
      ->allow_extra_args(false);
}

Result<Config> load_settings(const SettingArguments& arguments) {
  return Config::load({arguments.file, process_environment(), arguments.settings});
}

int fail(const Status& status) {
  print_error(status.message());
  return status.code() == StatusCode::kInvalidArgument ? kExitUsage : kExitFailure;
}

}  // namespace mempool
