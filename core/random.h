// SPDX-License-Identifier: Apache-2.0
// Owns randomness: a small seeded generator that replays, and true random words for incarnations.
#pragma once

#include <cstdint>

namespace mempool {

/// SplitMix64: one word of state, equal seeds give equal runs. Not for secrets. Thread: confined.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  /// A number in [0, bound); `bound` is not 0.
  uint64_t below(uint64_t bound) { return next() % bound; }
  /// A number in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  bool chance(double probability) { return unit() < probability; }

 private:
  uint64_t state_;
};

/// A nonzero word from the kernel's generator, fit for incarnations and nonces.
uint64_t random_word();

}  // namespace mempool
