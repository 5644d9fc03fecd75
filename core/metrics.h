// SPDX-License-Identifier: Apache-2.0
// Owns the metrics of an agent: counting costs one relaxed atomic, rendering happens at a scrape.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/check.h"

namespace mempool {

/// A number that only grows. Thread: safe.
class Counter {
 public:
  void add(uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

/// A number as it is now. Thread: safe.
class Gauge {
 public:
  void set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_ = 0;
};

/// How often a duration fell into each of fixed buckets. Thread: safe.
class Histogram {
 public:
  /// Upper bounds in seconds; what is longer than the last falls into one bucket more.
  static constexpr std::array<double, 12> kBounds = {0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03,
                                                     0.1,    0.3,    1,     3,     10,   30};
  void observe(double seconds);
  uint64_t count(size_t bucket) const { return counts_[bucket].value(); }
  double sum_seconds() const;

 private:
  std::array<Counter, kBounds.size() + 1> counts_;
  Counter sum_ns_;
};

/// One metric, with a value for each combination of its labels. Hot paths keep the reference that
/// with() gives; it is valid until remove(), or the family's end. Thread: safe.
template <typename Value>
class MetricFamily {
 public:
  MetricFamily(std::string_view name, std::string_view help,
               std::vector<std::string_view> labels = {})
      : name_(name), help_(help), labels_(std::move(labels)) {}

  /// Find or make the value of these label values. Requires: one for each label, in order.
  Value& with(const std::vector<std::string>& label_values = {}) {
    MEMPOOL_CHECK(label_values.size() == labels_.size());
    const std::lock_guard lock(mutex_);
    return values_[label_values];
  }

  /// Show this value no more. Requires: nobody keeps its reference.
  void remove(const std::vector<std::string>& label_values) {
    const std::lock_guard lock(mutex_);
    values_.erase(label_values);
  }

  /// Call `visitor(label_values, value)` for each value.
  template <typename Visitor>
  void visit(const Visitor& visitor) const {
    const std::lock_guard lock(mutex_);
    for (const auto& [label_values, value] : values_) visitor(label_values, value);
  }
  std::string_view name() const { return name_; }
  std::string_view help() const { return help_; }
  const std::vector<std::string_view>& labels() const { return labels_; }

 private:
  const std::string_view name_;
  const std::string_view help_;
  const std::vector<std::string_view> labels_;
  mutable std::mutex mutex_;
  std::map<std::vector<std::string>, Value> values_;  // its references stay valid
};

/// Every metric of one agent. Thread: safe.
struct Metrics {
  Metrics();

  MetricFamily<Gauge> blocks{"mempool_blocks", "Blocks of the pool by state.", {"state"}};
  MetricFamily<Counter> transfers{
      "mempool_transfers_total", "Transfers that ended, by our role and how.", {"role", "result"}};
  MetricFamily<Counter> transfer_bytes{"mempool_transfer_bytes_total",
                                       "Bytes of blocks that transfers moved.",
                                       {"role", "transport"}};
  MetricFamily<Histogram> transfer_seconds{"mempool_transfer_seconds",
                                           "Time from a transfer's call to its acknowledgement."};
  MetricFamily<Counter> network_calls{
      "mempool_network_calls_total", "Operations posted to a transport.", {"transport"}};
  MetricFamily<Counter> match_tokens{
      "mempool_match_tokens_total", "Prompt tokens that match() was asked for.", {"result"}};
  MetricFamily<Counter> evictions{"mempool_evictions_total", "Blocks evicted from the index."};
  MetricFamily<Gauge> tenant_blocks{
      "mempool_tenant_blocks", "Blocks that a listed tenant has, by state.", {"tenant", "state"}};
  MetricFamily<Gauge> tenant_limit_blocks{"mempool_tenant_limit_blocks",
                                          "A listed tenant's quota (0: none) and floor.",
                                          {"tenant", "limit"}};
  MetricFamily<Gauge> quarantine_blocks{
      "mempool_quarantine_blocks", "Blocks that a peer may still write into.", {"peer"}};
  MetricFamily<Counter> stale_rejected{"mempool_stale_rejected_total",
                                       "Addresses refused because their block had been freed."};
  MetricFamily<Counter> checksum_failures{"mempool_checksum_failures_total",
                                          "Blocks whose bytes were not those that were sealed."};
  MetricFamily<Gauge> peer_up{"mempool_peer_up",
                              "1 while a session with the peer is up, by the peer's role.",
                              {"peer", "role"}};
  MetricFamily<Gauge> connections{"mempool_connections",
                                  "Sessions that this agent has dialed, or is dialing."};
  MetricFamily<Counter> connections_closed{"mempool_connections_closed_total",
                                           "Idle sessions closed to make room for another peer."};
  MetricFamily<Gauge> build_info{"mempool_build_info", "1, with the version.", {"version"}};

  /// Give all of them in Prometheus' text form.
  std::string text() const;
};

}  // namespace mempool
