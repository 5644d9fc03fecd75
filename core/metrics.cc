// SPDX-License-Identifier: Apache-2.0
// Owns the rendering of metrics; the text form itself is prometheus-cpp's.
#include "core/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

#include "mempool/version.h"

namespace mempool {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

void render(const Counter& counter, prometheus::ClientMetric& out) {
  out.counter.value = static_cast<double>(counter.value());
}

void render(const Gauge& gauge, prometheus::ClientMetric& out) {
  out.gauge.value = static_cast<double>(gauge.value());
}

void render(const Histogram& histogram, prometheus::ClientMetric& out) {
  uint64_t cumulative = 0;
  for (size_t bucket = 0; bucket < Histogram::kBounds.size(); ++bucket) {
    cumulative += histogram.count(bucket);
    out.histogram.bucket.push_back({cumulative, Histogram::kBounds[bucket]});
  }
  out.histogram.sample_count = cumulative + histogram.count(Histogram::kBounds.size());
  out.histogram.sample_sum = histogram.sum_seconds();
}

prometheus::MetricType type_of(const MetricFamily<Counter>&) {
  return prometheus::MetricType::Counter;
}
prometheus::MetricType type_of(const MetricFamily<Gauge>&) {
  return prometheus::MetricType::Gauge;
}
prometheus::MetricType type_of(const MetricFamily<Histogram>&) {
  return prometheus::MetricType::Histogram;
}

template <typename Value>
prometheus::MetricFamily render(const MetricFamily<Value>& family) {
  prometheus::MetricFamily out;
  out.name = family.name();
  out.help = family.help();
  out.type = type_of(family);
  family.visit([&](const std::vector<std::string>& label_values, const Value& value) {
    prometheus::ClientMetric& metric = out.metric.emplace_back();
    for (size_t i = 0; i < label_values.size(); ++i) {
      metric.label.push_back({std::string(family.labels()[i]), label_values[i]});
    }
    render(value, metric);
  });
  return out;
}

}  // namespace

void Histogram::observe(double seconds) {
  const auto bound = std::ranges::lower_bound(kBounds, seconds);
  counts_[bound - kBounds.begin()].add();
  sum_ns_.add(static_cast<uint64_t>(std::max(seconds, 0.0) * kNanosecondsPerSecond));
}

double Histogram::sum_seconds() const {
  return static_cast<double>(sum_ns_.value()) / kNanosecondsPerSecond;
}

Metrics::Metrics() {
  for (auto* family : {&evictions, &stale_rejected, &checksum_failures, &connections_closed}) {
    family->with();
  }
  connections.with();
  transfer_seconds.with();
  build_info.with({std::string(version())}).set(1);
}

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(
      {render(blocks), render(transfers), render(transfer_bytes), render(transfer_seconds),
       render(network_calls), render(match_tokens), render(evictions), render(tenant_blocks),
       render(tenant_limit_blocks), render(quarantine_blocks), render(stale_rejected),
       render(checksum_failures), render(peer_up), render(connections), render(connections_closed),
       render(build_info)});
}

}  // namespace mempool
