// SPDX-License-Identifier: Apache-2.0
// Owns where a test's process looks for modules.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

#include "transport/transport_module.h"

namespace mempool::testing {

/// While it lives, modules come from the folder alone; none: from where they are looked for by
/// default. Thread: confined; no other thread may look into the environment meanwhile.
class ModulePath {
 public:
  explicit ModulePath(const std::optional<std::string>& folder) {
    if (const char* before = std::getenv(kModulePathVariable)) before_ = before;
    set(folder);
  }
  ~ModulePath() { set(before_); }
  ModulePath(const ModulePath&) = delete;
  ModulePath& operator=(const ModulePath&) = delete;

 private:
  static void set(const std::optional<std::string>& folder) {
    if (folder) {
      ::setenv(kModulePathVariable, folder->c_str(), 1);
    } else {
      ::unsetenv(kModulePathVariable);
    }
  }

  std::optional<std::string> before_;
};

}  // namespace mempool::testing
