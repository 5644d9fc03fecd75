// SPDX-License-Identifier: Apache-2.0
// Owns the rules by which samples of the self-test are judged.
#include "transport/ucx/ucx_verdict.h"

#include <fmt/format.h>

#include <algorithm>

namespace mempool {
namespace {

constexpr double kFarSlower = 4;  // than the best size: past what load explains

// Turn an operation off, or give why calls must be smaller than this.
Status judge_operation(const Status& moved, bool smallest, bool& used, UcxVerdict& verdict) {
  if (!used || moved.ok()) return {};
  if (!smallest && moved.code() != StatusCode::kCorruption) return moved;
  used = false;
  verdict.turned_off.push_back(moved);
  return {};
}

}  // namespace

UcxVerdict judge_ucx(std::span<const UcxSample> samples) {
  UcxVerdict verdict;
  double best = 0;
  for (const UcxSample& sample : samples) {
    const bool smallest = verdict.bytes == 0;
    Status failed = judge_operation(sample.put, smallest, verdict.put, verdict);
    const Status failed_get = judge_operation(sample.get, smallest, verdict.get, verdict);
    if (failed.ok()) failed = failed_get;
    verdict.final = true;
    if (!verdict.put && !verdict.get) return verdict;
    if (!failed.ok()) {
      verdict.why = failed.message();
      return verdict;
    }
    if (verdict.put && sample.put_bytes_per_second * kFarSlower < best) {
      verdict.why = fmt::format("puts of {} bytes go at {:.0f} MB/s, smaller ones at {:.0f}",
                                sample.bytes, sample.put_bytes_per_second / 1e6, best / 1e6);
      return verdict;
    }
    verdict.final = false;
    verdict.bytes = sample.bytes;
    best = std::max(best, sample.put_bytes_per_second);
  }
  return verdict;
}

}  // namespace mempool
