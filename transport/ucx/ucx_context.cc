// SPDX-License-Identifier: Apache-2.0
// Owns the opening of UCX with its settings.
#include "transport/ucx/ucx_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "core/check.h"
#include "core/log.h"
#include "transport/ucx/ucx_words.h"
#include "transport/ucx/ucx_worker.h"

namespace mempool {
namespace {

struct Default {
  const char* name;
  const char* value;
  const char* other = nullptr;  // names by which the environment may set it too
  const char* another = nullptr;
};

constexpr std::string_view kRetries = "RC_RETRY_COUNT";

constexpr Default kDefaults[] = {
    // 7 means for ever to some devices: a connection to a dead peer would then never end.
    {"RC_RETRY_COUNT", "6", "RC_VERBS_RETRY_COUNT", "RC_MLX5_RETRY_COUNT"},
    // Takes a lane of its own, of which UCX 1.13 dies when a connection is taken down half made.
    // That a peer has gone is told by the set-up connection.
    {"KEEPALIVE_INTERVAL", "inf"},
    // Each connection has queues of its own, for notifications alone; by default they hold 70 MB.
    {"RC_RX_QUEUE_LEN", "256", "RC_VERBS_RX_QUEUE_LEN", "RC_MLX5_RX_QUEUE_LEN"},
    {"UD_RX_QUEUE_LEN", "256", "UD_VERBS_RX_QUEUE_LEN", "UD_MLX5_RX_QUEUE_LEN"},
    {"RC_TX_BUFS_GROW", "128", "RC_VERBS_TX_BUFS_GROW", "RC_MLX5_TX_BUFS_GROW"},
    {"UD_TX_BUFS_GROW", "128", "UD_VERBS_TX_BUFS_GROW", "UD_MLX5_TX_BUFS_GROW"},
    // A notification says that what was written before it is there.
    {"PCI_RELAXED_ORDERING", "n", "IB_PCI_RELAXED_ORDERING"},
    // The transports of one host look for a peer's death only where they are told to.
    {"ERROR_HANDLING", "y", "POSIX_ERROR_HANDLING"},
};

constexpr std::string_view kInfiniBand = "IB_";

// What the config or the environment says of a setting, the config first.
std::optional<std::string> value_of(const UcxOptions& options, const char* name) {
  const auto given =
      std::ranges::find_if(options.config, [&](const auto& one) { return one.first == name; });
  if (given != options.config.end()) return given->second;
  const char* const value = std::getenv(fmt::format("UCX_{}", name).c_str());
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

bool is_set(const UcxOptions& options, const Default& one) {
  for (const char* const name : {one.name, one.other, one.another}) {
    if (name == nullptr) continue;
    const std::optional<std::string> value = value_of(options, name);
    if (value == "7" && one.name == kRetries) {
      log().warning(
          "ucx: {} is 7, which means for ever to some devices (soft-RoCE): calls to a peer that "
          "is gone may then never end; give at most 6",
          name);
    }
    if (value) return true;
  }
  return false;
}

struct ConfigRelease {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};
using Config = std::unique_ptr<ucp_config_t, ConfigRelease>;

Status modify(ucp_config_t* config, const std::string& name, const std::string& value) {
  const UcxWords words;
  const ucs_status_t status = ucp_config_modify(config, name.c_str(), value.c_str());
  if (status == UCS_OK) return {};
  const std::string what = fmt::format("setting {}={}", name, value);
  return invalid_argument(fmt::format("{}; see `ucx_info -cf` for what it takes",
                                      words.failure(status, what).message()));
}

Result<Config> configure(const UcxOptions& options) {
  ucp_config_t* read = nullptr;
  const UcxWords words;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &read); status != UCS_OK) {
    return with_mend(words.failure(status, "read the settings UCX_*"),
                     "look at what of UCX_* the environment has");
  }
  Config config(read);
  MEMPOOL_RETURN_IF_ERROR(modify(read, "TLS", options.tls));
  MEMPOOL_RETURN_IF_ERROR(modify(read, "NET_DEVICES", options.devices));
  for (const Default& one : kDefaults) {
    if (is_set(options, one)) continue;
    MEMPOOL_RETURN_IF_ERROR(modify(read, one.name, one.value));
  }
  for (const auto& [name, value] : options.config) {
    MEMPOOL_RETURN_IF_ERROR(modify(read, name, value));
    // The settings of InfiniBand as a whole have this prefix in the environment alone.
    if (name.starts_with(kInfiniBand)) {
      MEMPOOL_RETURN_IF_ERROR(modify(read, name.substr(kInfiniBand.size()), value));
    }
  }
  return config;
}

}  // namespace

std::string printed(const std::function<void(FILE*)>& print) {
  char* text = nullptr;
  size_t bytes = 0;
  FILE* const stream = open_memstream(&text, &bytes);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::string result(text, bytes);
  std::free(text);
  return result;
}

Result<std::unique_ptr<UcxContext>> UcxContext::open(const UcxOptions& options) {
  log_ucx_as_ours();
  MEMPOOL_ASSIGN_OR_RETURN(const Config config, configure(options));
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.name = "mempool";
  std::unique_ptr<UcxContext> context(new UcxContext);
  const UcxWords words;
  const ucs_status_t status = ucp_init(&params, config.get(), &context->context_);
  if (status != UCS_OK) {
    context->context_ = nullptr;
    return with_mend(words.failure(status, fmt::format("ucx.tls = \"{}\" on ucx.devices = \"{}\"",
                                                       options.tls, options.devices)),
                     "name what `ucx_info -d` shows");
  }
  context->resources_ = parse_ucx_resources(
      printed([&](FILE* stream) { ucp_context_print_info(context->context_, stream); }));
  MEMPOOL_RETURN_IF_ERROR(context->check_settings(options));
  return context;
}

UcxContext::~UcxContext() {
  if (context_ != nullptr) ucp_cleanup(context_);
}

// UCX takes every name, and says of those that nothing has read when a worker is made:
// "invalid configurations: NAME=VALUE,NAME=VALUE".
Status UcxContext::check_settings(const UcxOptions& options) const {
  if (options.config.empty()) return {};
  std::string said;
  MEMPOOL_ASSIGN_OR_RETURN(const UcxWorkerHandle worker, make_ucx_worker(context_, &said));
  const auto unused = [&](std::string_view name, std::string_view value) {
    return said.find(fmt::format(" {}={}", name, value)) != std::string::npos ||
           said.find(fmt::format(",{}={}", name, value)) != std::string::npos;
  };
  for (const auto& [name, value] : options.config) {
    if (!unused(name, value)) continue;
    const bool general = name.starts_with(kInfiniBand);
    if (general && !unused(name.substr(kInfiniBand.size()), value)) continue;
    return invalid_argument(fmt::format(
        "config: UCX has no use for \"{}={}\" with ucx.tls = \"{}\"; give a name of `ucx_info "
        "-cf`, for all transports of a kind (RC_RETRY_COUNT, not RC_VERBS_RETRY_COUNT)",
        name, value, options.tls));
  }
  return {};
}

}  // namespace mempool
