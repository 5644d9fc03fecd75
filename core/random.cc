// SPDX-License-Identifier: Apache-2.0
// Owns the way to the kernel's random numbers.
#include "core/random.h"

#include <sys/random.h>

#include "core/check.h"

namespace mempool {

uint64_t random_word() {
  uint64_t word = 0;
  while (word == 0) {
    // Eight bytes are never cut short; the call can only wait, once, for the kernel's pool at boot.
    MEMPOOL_CHECK(getrandom(&word, sizeof(word), 0) == sizeof(word));
  }
  return word;
}

}  // namespace mempool
