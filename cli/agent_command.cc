// SPDX-License-Identifier: Apache-2.0
// Owns `mempool agent`: settings from file, environment and flags, one agent until a signal drains
// and ends it.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/agent_config.h"
#include "cli/command.h"
#include "cli/pool_reload.h"
#include "core/config.h"
#include "core/descriptor_room.h"
#include "core/log.h"
#include "mempool/agent.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(Settings come from FILE, then MEMPOOL_SECTION_KEY variables, then flags; the
later wins, and unknown keys are refused. --print-config shows every key.

Examples:
  mempool agent --config prefill.toml
  mempool agent --pool.bytes 3GiB --peers.decode0 10.0.0.7:7070 --log.format json
  MEMPOOL_AGENT_TOKEN_FILE=/run/mempool.token mempool agent --agent.listen 0.0.0.0:7070
  mempool agent --config prefill.toml --print-config > effective.toml

When it is ready it prints one line: ready name=... listen=HOST:PORT admin=HOST:PORT
SIGTERM or SIGINT drains it: /readyz turns 503, new transfers are refused, and it
ends with 0 when the open ones have ended or agent.drain_timeout_ms has passed. A
second signal ends it at once, with 128 and the signal's number. SIGHUP reads the
settings again and takes up the size of the pool; all else waits for a restart.)";

struct AgentArguments : SettingArguments {
  bool print_config = false;
  bool json = false;
};

/// Turn what the parser left over, `--section.key value` or `--section.key=value`, into settings.
Status add_setting_flags(const std::vector<std::string>& rest, std::vector<std::string>& settings) {
  for (size_t i = 0; i < rest.size(); ++i) {
    const std::string& word = rest[i];
    if (!word.starts_with("--") || word.find('.') == std::string::npos) {
      return invalid_argument(
          fmt::format("'{}' is no option of mempool agent; see mempool agent --help", word));
    }
    const std::string setting = word.substr(2);
    if (setting.find('=') != std::string::npos) {
      settings.push_back(setting);
    } else if (i + 1 < rest.size()) {
      settings.push_back(setting + "=" + rest[++i]);
    } else {
      return invalid_argument(fmt::format("{} needs a value", word));
    }
  }
  return Status();
}

void print_ready(const AgentStatus& status, bool json) {
  if (json) {
    const nlohmann::ordered_json line = {
        {"name", status.name}, {"listen", status.listen}, {"admin", status.admin}};
    fmt::print("{}\n", line.dump());
  } else {
    fmt::print("ready name={} listen={} admin={}\n", status.name, status.listen, status.admin);
  }
  std::fflush(stdout);
}

/// Hold back the agent's signals, in this thread and those that it starts.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

/// Have the next signal end the process. By a handler, for as process 1 of a container it would
/// outlive the default action.
void end_on_next(const sigset_t& signals) {
  struct sigaction action {};
  action.sa_handler = [](int caught) { ::_exit(128 + caught); };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  signal(SIGHUP, SIG_IGN);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

/// Wait for the signal that ends the agent; SIGHUP has its settings read again.
int wait_for_end(const sigset_t& signals, PoolReloader& reloader) {
  for (;;) {
    int caught = 0;
    sigwait(&signals, &caught);
    if (caught != SIGHUP) return caught;
    reloader.again();
  }
}

int run_agent(const CLI::App& app, AgentArguments arguments) {
  const Status flags = add_setting_flags(app.remaining(), arguments.settings);
  if (!flags.ok()) return fail(flags);
  const Result<Config> config = load_settings(arguments);
  if (!config.ok()) return fail(config.status());
  const Result<AgentOptions> options = agent_options(*config);
  if (!options.ok()) return fail(options.status());
  if (arguments.print_config) {
    fmt::print("{}", config->print());
    return kExitOk;
  }
  const Status logged = configure_log(*config);
  if (!logged.ok()) return fail(logged);

  const sigset_t signals = block_signals();
  signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  Result<std::unique_ptr<Agent>> agent = Agent::start(*options);
  if (!agent.ok()) return fail(agent.status());
  print_ready((*agent)->status(), arguments.json);
  const std::chrono::milliseconds timeout(config->get_integer("agent.drain_timeout_ms"));
  std::optional<PoolReloader> reloader(
      std::in_place, **agent, [&arguments] { return load_settings(arguments); }, timeout);
  const int caught = wait_for_end(signals, *reloader);
  end_on_next(signals);
  log().info("agent '{}' drains on {}", options->name, caught == SIGINT ? "SIGINT" : "SIGTERM");
  const Status drained = (*agent)->drain(timeout);
  if (!drained.ok()) log().warning("agent '{}' ends early: {}", options->name, drained.message());
  reloader.reset();
  agent->reset();
  return kExitOk;
}

}  // namespace

Command add_agent_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("agent", "Run one agent until SIGTERM or SIGINT");
  auto arguments = std::make_shared<AgentArguments>();  // shared by the parser and run
  add_setting_options(*app, *arguments);
  app->add_flag("--print-config", arguments->print_config,
                "Print every key with its help and effective value as TOML, and end");
  app->add_flag("--json", arguments->json, "Print the ready line as JSON");
  app->allow_extras();
  app->footer(kHelp);
  return {app, [app, arguments] { return run_agent(*app, *arguments); }};
}

}  // namespace mempool
