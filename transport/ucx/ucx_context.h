// SPDX-License-Identifier: Apache-2.0
// Owns UCX itself as one transport uses it: its settings, and what it found on this machine.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "transport/ucx/ucx_options.h"
#include "transport/ucx/ucx_resources.h"

namespace mempool {

struct UcxWorkerDestroy {
  void operator()(ucp_worker_h worker) const { ucp_worker_destroy(worker); }
};
using UcxWorkerHandle = std::unique_ptr<std::remove_pointer_t<ucp_worker_h>, UcxWorkerDestroy>;

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
