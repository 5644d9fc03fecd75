// SPDX-License-Identifier: Apache-2.0
// Owns `mempool status`: one agent's own word about itself, as tables or as JSON.
#include <fmt/format.h>

#include <CLI/App.hpp>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/agent_config.h"
#include "cli/command.h"
#include "cli/http_get.h"
#include "core/check.h"
#include "core/config.h"

namespace mempool {
namespace {

constexpr char kHelp[] =
    R"(The address is the agent's [admin] listen, which `mempool agent` prints when it is
ready. Only an address beyond loopback asks for the token.

Examples:
  mempool status --at 127.0.0.1:9400
  mempool status --at 10.0.0.7:9400 --token-file /run/mempool.token --json

Exit codes: 0 the audit is ok, 1 it is not or the agent cannot be reached, 2 wrong usage.)";

struct StatusArguments {
  std::string at;
  std::string token;
  std::string token_file;
  uint32_t timeout_ms = 5000;
  bool json = false;
};

Result<nlohmann::json> fetch_status(const StatusArguments& arguments) {
  MEMPOOL_ASSIGN_OR_RETURN(const std::string token,
                           shared_token(arguments.token, arguments.token_file));
  MEMPOOL_ASSIGN_OR_RETURN(
      const HttpPage page,
      http_get(arguments.at, "/status", token, std::chrono::milliseconds(arguments.timeout_ms)));
  if (page.code == 401) {
    return permission_denied(
        fmt::format("{} asks for the agent's token; give --token-file", arguments.at));
  }
  auto document = nlohmann::json::parse(page.body, nullptr, false);
  if (page.code != 200 || !document.is_object()) {
    return unavailable(
        fmt::format("{} answered {} without a status; is this an agent's admin address?",
                    arguments.at, page.code));
  }
  return document;
}

void print_pool(const nlohmann::json& pool) {
  const uint64_t total = pool.at("total");
  const uint64_t block_bytes = pool.at("block_bytes");
  constexpr double kMebibyte = 1 << 20;
  fmt::print("\npool        {} blocks of {} bytes, {:.1f} MiB, {} pins\n", total, block_bytes,
             static_cast<double>(total * block_bytes) / kMebibyte, pool.at("pins").get<uint64_t>());
  const std::string note = pool.at("page_note");
  fmt::print("            in {} shards, in pages of {} bytes{}\n",
             pool.at("shards").get<uint32_t>(), pool.at("page_bytes").get<uint64_t>(),
             note.empty() ? "" : ": " + note);
  for (const auto& [state, count] : pool.at("blocks").items()) {
    const auto blocks = count.get<uint64_t>();
    fmt::print("  {:<12}{:>12} {:>6.1f} %\n", state, blocks,
               total == 0 ? 0 : 100.0 * static_cast<double>(blocks) / static_cast<double>(total));
  }
  for (const auto& [peer, count] : pool.at("quarantine").items()) {
    fmt::print("  set aside for {}: {} blocks\n", peer, count.get<uint64_t>());
  }
}

void print_tenants(const nlohmann::json& tenants) {
  if (tenants.empty()) return;
  fmt::print("\ntenants     {:<20}{:>12}{:>12}{:>12}{:>12}\n", "", "published", "awaited", "quota",
             "floor");
  for (const nlohmann::json& tenant : tenants) {
    const auto quota = tenant.at("quota").get<uint64_t>();
    fmt::print("  {:<30}{:>12}{:>12}{:>12}{:>12}\n", tenant.at("name").get<std::string>(),
               tenant.at("published").get<uint64_t>(), tenant.at("awaited").get<uint64_t>(),
               quota == 0 ? "none" : std::to_string(quota), tenant.at("floor").get<uint64_t>());
  }
}

void print_transports(const nlohmann::json& transports) {
  fmt::print("\ntransports\n");
  for (const nlohmann::json& transport : transports) {
    const auto closed = transport.at("closed").get<std::string>();
    fmt::print("  {:<20}{}\n", transport.at("name").get<std::string>(),
               closed.empty() ? "open" : "off: " + closed);
  }
}

void print_peers(const nlohmann::json& peers) {
  fmt::print("\npeers       {}\n", peers.empty() ? "none" : "");
  for (const nlohmann::json& peer : peers) {
    fmt::print("  {:<20}{:<8}{:<6}{}\n", peer.at("name").get<std::string>(),
               peer.at("role").get<std::string>(), peer.at("up").get<bool>() ? "up" : "down",
               peer.at("transport").get<std::string>());
    const auto route = peer.at("route").get<std::string>();
    if (!route.empty()) fmt::print("    over {}\n", route);
    for (const nlohmann::json& refusal : peer.at("refusals")) {
      fmt::print("    not used: {}\n", refusal.get<std::string>());
    }
  }
}

void print_engines(const nlohmann::json& engines) {
  fmt::print("\nengines     {}\n", engines.empty() ? "none attached" : "");
  for (const nlohmann::json& engine : engines) {
    fmt::print("  rank {:<5}process {:<12}{}\n", engine.at("shard").get<uint32_t>(),
               engine.at("process").get<int64_t>(),
               engine.at("attached").get<bool>() ? "attached" : "leaving");
  }
}

void print_status(const nlohmann::json& status) {
  fmt::print("agent       {} ({})\nlisten      {}\n", status.at("name").get<std::string>(),
             status.at("incarnation").get<std::string>(), status.at("listen").get<std::string>());
  print_pool(status.at("pool"));
  const nlohmann::json& index = status.at("index");
  fmt::print("\nindex       {} blocks in {} nodes, {} bytes\n", index.at("blocks").get<uint64_t>(),
             index.at("nodes").get<uint64_t>(), index.at("bytes").get<uint64_t>());
  print_tenants(status.at("tenants"));
  print_transports(status.at("transports"));
  print_peers(status.at("peers"));
  print_engines(status.at("engines"));
  fmt::print("\naudit       {}\nready       {}\n", status.at("audit").get<std::string>(),
             status.at("ready").get<std::string>());
}

int run_status(const StatusArguments& arguments) {
  const Result<nlohmann::json> status = fetch_status(arguments);
  if (!status.ok()) return fail(status.status());
  try {
    if (arguments.json) {
      fmt::print("{}\n", status->dump(2));
    } else {
      print_status(*status);
    }
    return status->at("audit") == "ok" ? kExitOk : kExitFailure;
  } catch (const nlohmann::json::exception& error) {
    return fail(unavailable(
        fmt::format("{} gave a status of another version: {}", arguments.at, error.what())));
  }
}

}  // namespace

Command add_status_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("status", "Show an agent's pool, index, peers and audit");
  auto arguments = std::make_shared<StatusArguments>();  // shared by the parser and run
  app->add_option("--at", arguments->at, "The agent's admin address")
      ->type_name("HOST:PORT")
      ->required();
  app->add_flag("--json", arguments->json, "Print the status as JSON");
  app->add_option("--token", arguments->token, "The agents' shared secret")->type_name("SECRET");
  app->add_option("--token-file", arguments->token_file, "File that holds it")->type_name("FILE");
  app->add_option("--timeout-ms", arguments->timeout_ms, "Time to wait for the answer")
      ->capture_default_str();
  app->footer(kHelp);
  return {app, [arguments] { return run_status(*arguments); }};
}

}  // namespace mempool
