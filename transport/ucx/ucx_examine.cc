// SPDX-License-Identifier: Apache-2.0
// Owns the findings about UCX and its devices.
#include "transport/ucx/ucx_examine.h"

#include <fmt/format.h>
#include <ucp/api/ucp.h>

#include <map>
#include <memory>
#include <string>

#include "transport/ucx/ucx_context.h"
#include "transport/ucx/ucx_self_test.h"

namespace mempool {
namespace {

// Test one device by itself: with all of them UCX would choose.
DeviceFinding examine_device(const std::string& device, const std::string& transports,
                             UcxOptions options) {
  if (!options.self_test) return {device, true, transports, ""};
  options.devices = device;
  const Result<std::unique_ptr<UcxContext>> ucx = UcxContext::open(options);
  Capabilities capabilities;
  capabilities.write = true;
  capabilities.read = true;
  capabilities.message_bytes = options.message_bytes;
  const Status tested = ucx.ok() ? test_ucx((*ucx)->handle(), capabilities) : ucx.status();
  if (!tested.ok()) {
    return {device, false, fmt::format("{}: {}", transports, tested.message()), kSelfTestMend};
  }
  return {device, true,
          fmt::format("{}: {}{}right, calls of at most {} bytes", transports,
                      capabilities.write ? "puts " : "", capabilities.read ? "gets " : "",
                      capabilities.message_bytes),
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
  std::map<std::string, std::string> devices;  // "mlx5_0:1", device and port, to what reaches it
  for (const UcxResource& one : (*ucx)->resources()) {
    // Memory of one host has no device to be chosen by.
    if (one.device.starts_with("memory")) continue;
    std::string& transports = devices[one.device];
    if (!transports.empty()) transports += ", ";
    transports += one.transport + (one.auxiliary ? " (for setting up)" : "");
  }
  for (const auto& [device, transports] : devices) {
    findings.push_back(examine_device(device, transports, *options));
  }
  return findings;
}

}  // namespace mempool
