// SPDX-License-Identifier: Apache-2.0
// Owns the machine's steady clock.
#include "core/clock.h"

namespace mempool {
namespace {

class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace

const Clock& system_clock() {
  static const SystemClock clock;
  return clock;
}

}  // namespace mempool
