// SPDX-License-Identifier: Apache-2.0
// Owns UCX itself as one transport uses it: its settings, and what it found on this machine.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "transport/ucx/ucx_options.h"

namespace mempool {

struct UcxWorkerDestroy {
  void operator()(ucp_worker_h worker) const { ucp_worker_destroy(worker); }
};
using UcxWorkerHandle = std::unique_ptr<std::remove_pointer_t<ucp_worker_h>, UcxWorkerDestroy>;

/// A transport of UCX on a device.
struct UcxResource {
  std::string transport;   // "rc_verbs"
  std::string device;      // "mlx5_0:1"
  bool auxiliary = false;  // for setting up connections only
};

/// Read "TRANSPORT/DEVICE" lines of what UCX prints of a context.
std::vector<UcxResource> parse_ucx_resources(std::string_view printed);
/// Read the transports, as "rc_verbs/mlx5_0:1, tcp/lo", of what UCX prints of an endpoint.
std::string parse_ucx_route(std::string_view printed);
/// Give what `print` writes to a stream.
std::string printed(const std::function<void(FILE*)>& print);

/// Thread: confined.
class UcxContext {
 public:
  /// Errors: kInvalidArgument for a setting that UCX does not know or use; kUnavailable where it
  /// finds no device.
  static Result<std::unique_ptr<UcxContext>> open(const UcxOptions& options);
  ~UcxContext();
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  ucp_context_h handle() const { return context_; }
  const std::vector<UcxResource>& resources() const { return resources_; }
  /// Tell whether a NIC may move the bytes by itself.
  bool has_rdma() const;
  /// Take a worker whose connection was given up half made.
  void take_half_made(UcxWorkerHandle worker);

 private:
  UcxContext() = default;
  Status check_settings(const UcxOptions& options) const;

  ucp_context_h context_ = nullptr;
  std::vector<UcxResource> resources_;
  size_t set_aside_ = 0;  // workers that are left as they are
};

}  // namespace mempool
