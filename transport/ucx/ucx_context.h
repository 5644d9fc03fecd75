// SPDX-License-Identifier: Apache-2.0
// Owns UCX itself as one transport uses it: its settings, and what it found on this machine.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/ucx/ucx_options.h"
#include "transport/ucx/ucx_resources.h"

namespace mempool {

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

 private:
  UcxContext() = default;
  Status check_settings(const UcxOptions& options) const;

  ucp_context_h context_ = nullptr;
  std::vector<UcxResource> resources_;
};

}  // namespace mempool
