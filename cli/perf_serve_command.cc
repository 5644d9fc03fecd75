// SPDX-License-Identifier: Apache-2.0
// Owns `mempool perf serve`.
#include <cstdio>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <CLI/App.hpp>

#include "cli/perf_command.h"
#include "core/config.h"
#include "perf/perf_server.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(The other end of mempool perf transfer --to, and a host of mempool perf matrix. Of the
settings, which are those of mempool agent, agent.listen and the token count: any host but loopback
needs one, the same at all ends. What is moved, and over what, the client says. Each case opens
ports of its own on the same host, picked by the kernel.

When it is ready it prints one line: ready listen=HOST:PORT; then one for each case. Clients take
turns. SIGTERM or SIGINT ends it.

Examples:
  mempool perf serve --set agent.listen=10.0.0.7:7171 --set agent.token_file=/run/mempool.token
  mempool perf serve --config perf.toml
  MEMPOOL_AGENT_LISTEN=127.0.0.1:7171 mempool perf serve)";

void print_ready(const std::string& address) {
  fmt::print("ready listen={}\n", address);
  std::fflush(stdout);
}

int run_serve(const SettingArguments& arguments) {
  const Result<Config> config = load_settings(arguments);
  if (!config.ok()) return fail(config.status());
  const Result<TransferSite> own = site_of(*config);
  if (!own.ok()) return fail(own.status());
  const Status served = run_perf_server(config->get_string("agent.listen"), *own, print_ready);
  return served.ok() ? kExitOk : fail(served);
}

}  // namespace

Command add_perf_serve_command(CLI::App& perf) {
  CLI::App* app = perf.add_subcommand("serve", "Serve measurements to other hosts until SIGTERM");
  auto arguments = std::make_shared<SettingArguments>();  // shared by the parser and run
  add_setting_options(*app, *arguments);
  app->footer(kHelp);
  return {app, [arguments] { return run_serve(*arguments); }};
}

}  // namespace mempool
