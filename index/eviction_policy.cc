// SPDX-License-Identifier: Apache-2.0
// Owns the eviction policies there are, and their names.
#include "index/eviction_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "core/check.h"

namespace mempool {
namespace {

/// The block that was not used for the longest time goes first.
/// Thread: serialized, with the index.
class LeastRecentlyUsed : public EvictionPolicy {
 public:
  uint64_t rank(const BlockUse& use) const override { return use.last_use; }
};

/// The block with the fewest hits goes first, and of those the one not used for the longest time.
/// Thread: serialized, with the index.
class LeastFrequentlyUsed final : public EvictionPolicy {
 public:
  uint64_t rank(const BlockUse& use) const override {
    return uint64_t{std::min(use.hits, kHitsMost)} << kTickBits |
           std::min(use.last_use, kTicksMost);
  }

 private:
  static constexpr int kTickBits = 48;  // nine years of a million calls a second
  static constexpr uint64_t kTicksMost = (uint64_t{1} << kTickBits) - 1;
  static constexpr uint32_t kHitsMost = (1u << 15) - 1;
};

/// A block that was not used for `ttl` goes, whether there is room or not; before that the order is
/// LeastRecentlyUsed's. Time is cut into periods of a 64th of `ttl`, so a block goes at most a 64th
/// late, at the first call after.
/// Thread: serialized, with the index.
class TimeToLive final : public LeastRecentlyUsed {
 public:
  TimeToLive(Duration ttl, const Clock& clock)
      : clock_(clock), step_(std::max(ttl / kPeriods, Duration(1))), period_(period()) {}

  uint64_t expired(uint64_t tick) override {
    const int64_t now = period();
    if (now == period_) return 0;
    ends_.push_back({period_, tick});
    period_ = now;
    while (!ends_.empty() && ends_.front().period + kPeriods < now) {
      expired_ = ends_.front().tick;
      ends_.pop_front();
    }
    return expired_;
  }

 private:
  static constexpr int64_t kPeriods = 64;
  struct End {
    int64_t period = 0;
    uint64_t tick = 0;  // the last one drawn in it
  };

  int64_t period() const { return clock_.now().time_since_epoch() / step_; }

  const Clock& clock_;
  Duration step_;
  int64_t period_;
  std::deque<End> ends_;  // of the last 64 periods that saw calls
  uint64_t expired_ = 0;
};

/// S3-FIFO (Yang et al., SOSP 2023). New blocks stand in a small first queue, a tenth of the pool;
/// those that were hit twice when their turn comes move to the second queue, where each hit, up to
/// three, is one more round. Blocks that left the first queue are remembered for a while: when they
/// come again they go to the second queue at once.
/// Thread: serialized, with the index.
class S3Fifo final : public EvictionPolicy {
 public:
  explicit S3Fifo(uint32_t blocks)
      : first_share_(std::max(blocks / 10, 1u)), gone_(std::max(blocks - first_share_, 1u)) {}

  uint64_t rank(const BlockUse& use) const override { return use.turn; }
  bool first_queue_due() const override { return first_ >= first_share_; }

  bool spare(BlockUse& use) override {
    if (in_first(use)) {
      if (use.hits < 2) return false;
      use.hits = 0;
      --first_;
    } else {
      if (use.hits == 0) return false;
      use.hits = std::min(use.hits, 3u) - 1;
    }
    use.turn = kSecondQueue | ++turns_;
    return true;
  }

  bool tracks() const override { return true; }
  void on_insert(BlockUse& use) override {
    use.turn = ++turns_;
    if (gone_.take(use.print)) {
      use.turn |= kSecondQueue;
    } else {
      ++first_;
    }
  }
  void on_remove(const BlockUse& use, bool evicted) override {
    if (!in_first(use)) return;
    --first_;
    if (evicted) gone_.add(use.print, 0);
  }
  size_t memory_bytes() const override { return gone_.memory_bytes(); }

 private:
  static bool in_first(const BlockUse& use) { return use.turn < kSecondQueue; }

  uint32_t first_share_;  // blocks
  uint32_t first_ = 0;    // blocks in the first queue
  uint64_t turns_ = 0;
  GhostTable gone_;
};

}  // namespace

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             const EvictionOptions& options) {
  using Policy = std::unique_ptr<EvictionPolicy>;
  if (name == "lru") return Policy(std::make_unique<LeastRecentlyUsed>());
  if (name == "s3fifo") return Policy(std::make_unique<S3Fifo>(options.blocks));
  if (name == "lfu") return Policy(std::make_unique<LeastFrequentlyUsed>());
  if (name == "ttl") {
    if (options.ttl <= Duration::zero()) {
      return invalid_argument("eviction policy \"ttl\" needs a time above 0; give one");
    }
    return Policy(std::make_unique<TimeToLive>(options.ttl, *options.clock));
  }
  return invalid_argument(fmt::format(
      "there is no eviction policy \"{}\"; those there are: lru, s3fifo, lfu, ttl", name));
}

}  // namespace mempool
