// SPDX-License-Identifier: Apache-2.0
// Owns the findings about UCX and its devices.
#include "transport/ucx/ucx_examine.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <ucp/api/ucp.h>
#include <unistd.h>

#include <map>

#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_self_test.h"

namespace mempool {
namespace {

DeviceFinding locked_memory(uint64_t pool_bytes) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool enough =
      geteuid() == 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= pool_bytes;
  const std::string found =
      limit.rlim_cur == RLIM_INFINITY ? "no limit" : fmt::format("{} bytes", limit.rlim_cur);
  return {"locked memory", enough, found,
          enough ? ""
                 : fmt::format("raise it (`ulimit -l`, LimitMEMLOCK) to the pool's {} bytes",
                               pool_bytes)};
}

DeviceFinding self_test(const UcxContext& ucx, const UcxOptions& options) {
  Capabilities capabilities;
  capabilities.write = true;
  capabilities.read = true;
  capabilities.message_bytes = options.message_bytes;
  const Status tested = test_ucx(ucx.handle(), capabilities);
  if (!tested.ok()) {
    return {"self-test", false, std::string(tested.message()),
            "look at `ucx_info -d` and ucx.config; ucx.self_test = false goes without"};
  }
  return {"self-test", true,
          fmt::format("{}{}right, calls of at most {} bytes", capabilities.write ? "puts " : "",
                      capabilities.read ? "gets " : "", capabilities.message_bytes),
          ""};
}

}  // namespace

std::vector<DeviceFinding> examine_ucx(const DeviceQuery& query) {
  std::vector<DeviceFinding> findings;
  findings.push_back({"UCX", true, ucp_get_version_string(), ""});
  const Result<UcxOptions> options = UcxOptions::parse(query.options);
  if (!options.ok()) {
    findings.push_back({"options", false, std::string(options.status().message()), "change them"});
    return findings;
  }
  const Result<std::unique_ptr<UcxContext>> ucx = UcxContext::open(*options);
  if (!ucx.ok()) {
    findings.push_back({"devices", false, std::string(ucx.status().message()),
                        "name what there is in ucx.tls and ucx.devices"});
    return findings;
  }
  std::map<std::string, std::string> devices;  // to what reaches them
  for (const UcxResource& one : (*ucx)->resources()) {
    std::string& transports = devices[one.device];
    if (!transports.empty()) transports += ", ";
    transports += one.transport + (one.auxiliary ? " (for setting up)" : "");
  }
  for (const auto& [device, transports] : devices) {
    findings.push_back({device, true, transports, ""});
  }
  if ((*ucx)->has_rdma()) findings.push_back(locked_memory(query.pool_bytes));
  if (options->self_test) findings.push_back(self_test(**ucx, *options));
  return findings;
}

}  // namespace mempool
