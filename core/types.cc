// SPDX-License-Identifier: Apache-2.0
// Owns the text form of media and addresses.
#include "mempool/types.h"

#include <fmt/format.h>

namespace mempool {

std::string to_string(Medium medium) {
  switch (medium) {
    case Medium::kDevice:
      return "device";
    case Medium::kHost:
      return "host";
  }
  return fmt::format("medium {}", static_cast<unsigned>(medium));
}

std::string to_string(const BlockAddress& address) {
  return fmt::format("{}/{}@{} of {:016x}", to_string(address.medium()), address.index(),
                     address.generation, address.incarnation);
}

}  // namespace mempool
