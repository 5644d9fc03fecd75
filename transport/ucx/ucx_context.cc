// SPDX-License-Identifier: Apache-2.0
// Owns the opening of UCX and the reading of what it prints of itself.
#include "transport/ucx/ucx_context.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/check.h"
#include "core/log.h"
#include "transport/ucx/ucx_words.h"
#include "transport/ucx/ucx_worker.h"

namespace mempool {
namespace {

struct Default {
  const char* name;
  const char* value;
  const char* other;  // a name of which the environment may set it too
};

constexpr Default kDefaults[] = {
    // 7 means for ever to some devices: a connection to a dead peer would then never end.
    {"RC_RETRY_COUNT", "6", "RC_VERBS_RETRY_COUNT"},
    // Takes a lane of its own, of which UCX 1.13 dies when a connection is taken down half made.
    // That a peer has gone is told by the set-up connection.
    {"KEEPALIVE_INTERVAL", "inf", "KEEPALIVE_INTERVAL"},
    // Each connection has queues of its own, for notifications alone; by default they hold 70 MB.
    {"RC_RX_QUEUE_LEN", "256", "RC_VERBS_RX_QUEUE_LEN"},
    {"UD_RX_QUEUE_LEN", "256", "UD_VERBS_RX_QUEUE_LEN"},
    {"RC_TX_BUFS_GROW", "128", "RC_VERBS_TX_BUFS_GROW"},
    {"UD_TX_BUFS_GROW", "128", "UD_VERBS_TX_BUFS_GROW"},
    // A notification says that what was written before it is there.
    {"PCI_RELAXED_ORDERING", "n", "IB_PCI_RELAXED_ORDERING"},
    // The transports of one host look for a peer's death only where they are told to.
    {"ERROR_HANDLING", "y", "POSIX_ERROR_HANDLING"},
};

constexpr std::string_view kInfiniBand = "IB_";

bool is_set(const UcxOptions& options, const std::string& name) {
  return std::getenv(("UCX_" + name).c_str()) != nullptr ||
         std::ranges::any_of(options.config, [&](const auto& one) { return one.first == name; });
}

bool of_nic(const UcxResource& one) {
  return one.transport.starts_with("rc_") || one.transport.starts_with("dc_");
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
  return invalid_argument(std::string(words.failure(status, what).message()));
}

Result<Config> configure(const UcxOptions& options) {
  ucp_config_t* read = nullptr;
  const UcxWords words;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &read); status != UCS_OK) {
    return words.failure(status, "read the settings UCX_*");
  }
  Config config(read);
  MEMPOOL_RETURN_IF_ERROR(modify(read, "TLS", options.tls));
  MEMPOOL_RETURN_IF_ERROR(modify(read, "NET_DEVICES", options.devices));
  for (const Default& one : kDefaults) {
    if (is_set(options, one.name) || is_set(options, one.other)) continue;
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

// Give the first word of `line` that has a '/'; empty where none has.
std::string_view word_with_slash(std::string_view line) {
  const size_t slash = line.find('/');
  if (slash == std::string_view::npos) return {};
  const size_t begin = line.find_last_of(" \t", slash) + 1;  // npos + 1 is 0
  const size_t end = std::min(line.find_first_of(" \t\r", slash), line.size());
  return line.substr(begin, end - begin);
}

template <typename Each>
void for_each_line(std::string_view text, const Each& each) {
  for (size_t from = 0; from < text.size();) {
    const size_t to = std::min(text.find('\n', from), text.size());
    each(text.substr(from, to - from));
    from = to + 1;
  }
}

}  // namespace

// "#      resource 0  :  md 0  dev 0  flags a- rc_verbs/mlx5_0:1"
std::vector<UcxResource> parse_ucx_resources(std::string_view printed) {
  std::vector<UcxResource> resources;
  for_each_line(printed, [&](std::string_view line) {
    if (line.find("resource") == std::string_view::npos) return;
    const std::string_view word = word_with_slash(line);
    const size_t slash = word.find('/');
    if (slash == std::string_view::npos) return;
    resources.push_back({std::string(word.substr(0, slash)), std::string(word.substr(slash + 1)),
                         line.find("flags a") != std::string_view::npos});
  });
  return resources;
}

// "#   lane[0]:  2:rc_verbs/mlx5_0:1.0 md[1]  -> ..."; the number behind the dot is of the path.
std::string parse_ucx_route(std::string_view printed) {
  std::vector<std::string> route;
  for_each_line(printed, [&](std::string_view line) {
    const size_t lane = line.find("lane[");
    if (lane == std::string_view::npos) return;
    std::string_view word = word_with_slash(line.substr(0, line.find("->")));
    word.remove_prefix(std::min(word.find(':') + 1, word.find('/')));
    word = word.substr(0, word.rfind('.'));
    if (!word.empty() && std::ranges::find(route, word) == route.end()) route.emplace_back(word);
  });
  return fmt::format("{}", fmt::join(route, ", "));
}

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
    return words.failure(status,
                         fmt::format("ucx.tls = \"{}\" on ucx.devices = \"{}\", see `ucx_info -d`",
                                     options.tls, options.devices));
  }
  context->resources_ = parse_ucx_resources(
      printed([&](FILE* stream) { ucp_context_print_info(context->context_, stream); }));
  MEMPOOL_RETURN_IF_ERROR(context->check_settings(options));
  return context;
}

UcxContext::~UcxContext() {
  if (context_ != nullptr && set_aside_ == 0) ucp_cleanup(context_);
}

// Before 1.14 UCX ends the process where an answer to the peer is still to be sent over a transport
// that needs no queue pair, when the worker is destroyed or makes progress. Left alone it does
// nothing, and nothing can come of it: what was never greeted has no call.
void UcxContext::take_half_made(UcxWorkerHandle worker) {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  ucp_get_version(&major, &minor, &release);
  const bool dies = std::pair(major, minor) < std::pair(1u, 14u) &&
                    std::ranges::any_of(resources_, [](const UcxResource& one) {
                      return !one.auxiliary && !of_nic(one);
                    });
  if (!dies) return;
  (void)worker.release();
  if (set_aside_++ > 0) return;
  log().warning(
      "ucx: a connection was given up half made; its descriptors stay open, as those of each one "
      "more, until UCX is 1.14 or newer");
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

bool UcxContext::has_rdma() const {
  return std::ranges::any_of(resources_,
                             [](const UcxResource& one) { return !one.auxiliary && of_nic(one); });
}

}  // namespace mempool
