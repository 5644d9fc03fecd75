// SPDX-License-Identifier: Apache-2.0
// Owns the draw of a run's options.
#include "tests/simulation/simulation_options.h"

#include <fmt/format.h>

#include <array>

#include "core/random.h"

namespace mempool::simulation {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

template <typename T, size_t kCount>
T one_of(Random& random, const T (&choices)[kCount]) {
  return choices[random.below(kCount)];
}

DelayRange draw_delays(Random& random) {
  DelayRange range;
  range.least = microseconds(20);
  range.most = one_of<Duration>(random, {microseconds(100), milliseconds(1), milliseconds(8)});
  range.tail = one_of<Duration>(random, {milliseconds(20), milliseconds(200), milliseconds(900)});
  range.tail_share = one_of(random, {0.0, 0.01, 0.1});
  return range;
}

void draw_faults(Random& random, SimulationOptions& options) {
  options.drop = one_of(random, {0.0, 0.02, 0.1, 0.3});
  options.duplicate = one_of(random, {0.0, 0.05, 0.3});
  options.ordered_control = random.chance(0.3);
  options.dial_failure = one_of(random, {0.0, 0.1});
  options.lost_notification = one_of(random, {0.0, 0.0, 0.03});
  // Only a seed that checks every block can promise right bytes over a wire that flips some.
  if (options.verify == Verify::kAlways) options.corrupt = one_of(random, {0.0, 0.02});
  options.disturb_every =
      one_of<Duration>(random, {Duration(0), milliseconds(60), milliseconds(200)});
}

double in_milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::string to_string(const DelayRange& range) {
  return fmt::format("{} to {} ms, {} of them to {} ms", in_milliseconds(range.least),
                     in_milliseconds(range.most), range.tail_share, in_milliseconds(range.tail));
}

}  // namespace

uint32_t draw_shards(Random& random) {
  return one_of(random, {1u, 2u, 4u});
}

SimulationOptions options_from(uint64_t seed) {
  Random random(seed);
  SimulationOptions options;
  options.seed = seed;
  options.instances = 2 + static_cast<uint32_t>(random.below(3));
  options.segments = 1 + static_cast<uint32_t>(random.below(2));
  options.segment_blocks = 12 + static_cast<uint32_t>(random.below(16));
  options.max_inbound = one_of(random, {3u, 8u, 64u});
  options.verify = one_of(random, {Verify::kOff, Verify::kSampled, Verify::kAlways});
  options.checked_writes = random.chance(0.4);
  options.lanes = 1 + static_cast<uint32_t>(random.below(3));
  options.call_limits.local_pieces = one_of(random, {1u, 4u, 30u});
  options.call_limits.remote_ranges = options.checked_writes ? one_of(random, {1u, 8u}) : 1;
  options.call_limits.bytes = one_of(random, {uint64_t{24}, uint64_t{200}, UINT64_MAX});
  // A sum is over a block's bytes as they lie; where the orders differ there is none to compare.
  options.one_order = random.chance(0.5);
  options.shards = random.chance(0.5) ? draw_shards(random) : 0;

  options.operations = 60 + static_cast<uint32_t>(random.below(60));
  options.pace = one_of<Duration>(random, {milliseconds(1), milliseconds(4), milliseconds(15)});
  options.short_deadlines = one_of(random, {0.0, 0.1, 0.5});
  options.control = draw_delays(random);
  options.data = draw_delays(random);
  if (random.chance(0.85)) draw_faults(random, options);
  options.max_connections = one_of(random, {1u, 2u, 256u});
  options.quota = one_of(random, {0u, 6u, 9u});  // a whole prompt fits, two may not
  options.floor = one_of(random, {0u, 2u, 5u});
  return options;
}

std::string to_string(const SimulationOptions& options) {
  return fmt::format(
      "seed {}: {} instances, {} x {} blocks, max_inbound {}, connections {}, verify {}, {} "
      "writes, {} lanes, "
      "calls "
      "of {} pieces, {} ranges, {} bytes, {}, {} shards, quota {}, floor {}; {} operations each, "
      "{} ms apart, short "
      "deadlines {}; "
      "control {}{}, data {}; drop {}, duplicate {}, dial failure {}, lost notification {}, "
      "corrupt {}, disturbed every {} ms",
      options.seed, options.instances, options.segments, options.segment_blocks,
      options.max_inbound, options.max_connections, to_string(options.verify),
      options.checked_writes ? "checked" : "unchecked", options.lanes,
      options.call_limits.local_pieces, options.call_limits.remote_ranges,
      options.call_limits.bytes, options.one_order ? "one order" : "orders differ",
      options.shards == 0 ? "any number of" : std::to_string(options.shards), options.quota,
      options.floor, options.operations, in_milliseconds(options.pace), options.short_deadlines,
      to_string(options.control), options.ordered_control ? " in order" : "",
      to_string(options.data), options.drop, options.duplicate, options.dial_failure,
      options.lost_notification, options.corrupt, in_milliseconds(options.disturb_every));
}

}  // namespace mempool::simulation
