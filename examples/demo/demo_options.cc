// SPDX-License-Identifier: Apache-2.0
// Owns the names, bounds and help of the demo's flags.
#include "examples/demo/demo_options.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "core/config_keys.h"
#include "core/config_value.h"
#include "examples/demo/models.h"
#include "transport/transport_registry.h"

namespace mempool::demo {
namespace {

void add_size(CLI::App& app, const std::string& name, uint64_t& target, const std::string& help) {
  const auto read = [&target, name](const std::string& text) {
    const Result<uint64_t> size = parse_size(text);
    if (!size.ok()) throw CLI::ValidationError(name, std::string(size.status().message()));
    if (*size == 0) throw CLI::ValidationError(name, "give at least 1 byte");
    target = *size;
  };
  app.add_option_function<std::string>(name, read, help)->type_name("SIZE");
}

std::vector<std::string> transport_names() {
  TransportRegistry registry;
  register_transports(registry);
  return registry.names();
}

/// Hang an option into the command line that collects settings of transports.
void add_settings(CLI::App& app, const std::string& name, std::map<std::string, std::string>& into,
                  const std::string& help) {
  const auto read = [&into, name](const std::vector<std::string>& settings) {
    for (const std::string& setting : settings) {
      const size_t equal = setting.find('=');
      const std::string key = setting.substr(0, equal);
      const std::vector<std::string> transports = transport_names();
      const bool known = find_config_key(key) != nullptr &&
                         std::ranges::count(transports, key.substr(0, key.find('.'))) > 0;
      if (equal == std::string::npos || !known) {
        throw CLI::ValidationError(name, setting + " sets nothing of a transport");
      }
      into[key] = setting.substr(equal + 1);
    }
  };
  app.add_option_function<std::vector<std::string>>(name, read, help)
      ->type_name("TRANSPORT.KEY=VALUE")
      ->allow_extra_args(false);
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, DemoOptions& options) {
  std::vector<std::string> names = {"all"};
  for (const ContentSpec& spec : models()) names.push_back(spec.model);

  CLI::App app(
      "Move the KV of conversations from a prefill process to a decode process, and check every "
      "byte.",
      "mempool_demo");
  app.add_option("--role", options.role)->group("");
  app.add_option("--trace", options.trace,
                 "Replay a request trace in Mooncake's JSONL form instead of drawn conversations");
  app.add_option("--scale", options.scale, "Make the trace's prompts this many times shorter")
      ->capture_default_str();
  app.add_option("--requests", options.requests, "Prompts to read or draw")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{1}, uint64_t{10'000'000}));
  app.add_option("--seed", options.seed, "Seed of the drawn conversations")->capture_default_str();
  app.add_option("--model", options.model, "Whose KV is moved")
      ->capture_default_str()
      ->transform(CLI::IsMember(names, CLI::ignore_case));
  app.add_option("--transports,--transport", options.transports, "What moves it: a row of each")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember(transport_names()));
  app.add_option("--modes", options.modes,
                 "When it is moved: by_layer while it is made, by_request when all is there")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::IsMember(options.modes));
  app.add_option("--memory", options.memory,
                 "Where the KV lies: in the agents' pool, or in the engine's own tensors, which "
                 "agents adopt")
      ->capture_default_str()
      ->check(CLI::IsMember({"pool", "engine"}));
  add_settings(app, "--prefill", options.prefill,
               "Set something of a transport in the prefill process, as verbs.devices=mlx5_0; may "
               "be repeated");
  add_settings(app, "--decode", options.decode, "Likewise in the decode process");
  add_size(app, "--pool-bytes", options.pool_bytes,
           "Pool, or tensors, of each process, as 512MiB; default: the less of 3GiB and a quarter "
           "of the "
           "available memory");
  add_size(app, "--move-bytes", options.move_bytes,
           "A row ends once it moved as much; default: 2GB");
  app.add_option("--corrupt-request", options.corrupt_request,
                 "Flip one byte of this request before it is sent; the demo must then fail");
  app.add_option("--json", options.json, "Write the results to this file, too");
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("mempool_demo: {}; see --help\n", error.what());
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace mempool::demo
