// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic of the gather plan: five nested loops over both sides' strides, walked chunk
// by chunk, with neighbours merged on the way.
#include "transport/gather_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace mempool {
namespace {

using Wide = unsigned __int128;  // a peer's layout may hold any numbers; sums of them must not wrap

bool is_sound(const PlanSegment& segment) {
  const BlockLayout& layout = segment.layout;
  if (segment.blocks == 0 || layout.layers == 0 || layout.parts == 0 || layout.heads == 0 ||
      layout.tokens == 0 || layout.vector_bytes == 0) {
    return false;
  }
  const Wide piece = Wide{layout.heads} * layout.tokens * layout.vector_bytes;
  const Wide end = Wide{segment.blocks - 1} * layout.block_stride +
                   Wide{layout.layers - 1} * layout.layer_stride +
                   Wide{layout.parts - 1} * layout.part_stride + piece;
  return piece == layout.piece_bytes && end <= std::numeric_limits<int64_t>::max();
}

bool same_shape(const BlockLayout& a, const BlockLayout& b) {
  return a.layers == b.layers && a.parts == b.parts && a.heads == b.heads && a.tokens == b.tokens &&
         a.first_layer == b.first_layer && a.first_head == b.first_head && a.order == b.order &&
         a.vector_bytes == b.vector_bytes;
}

// A block of one run, whatever its form is called.
bool is_aggregated(const BlockLayout& layout) {
  return layout.part_stride == layout.piece_bytes &&
         layout.layer_stride == layout.parts * layout.piece_bytes;
}

Status check_side(const PlanSide& side, std::string_view name) {
  if (side.segments.empty()) return invalid_argument(fmt::format("{} side: no segments", name));
  for (const PlanSegment& segment : side.segments) {
    if (!is_sound(segment)) {
      return invalid_argument(
          fmt::format("{} side: the layout of region {} does not add up", name, segment.region));
    }
    if (!same_shape(segment.layout, side.segments.front().layout)) {
      return invalid_argument(
          fmt::format("{} side: regions {} and {} hold blocks of different shape; plan them apart",
                      name, side.segments.front().region, segment.region));
    }
  }
  return {};
}

struct Overlap {
  uint32_t first = 0;
  uint32_t count = 0;
};

Overlap overlap(uint32_t first_a, uint32_t count_a, uint32_t first_b, uint32_t count_b) {
  const uint32_t first = std::max(first_a, first_b);
  const uint64_t end = std::min(uint64_t{first_a} + count_a, uint64_t{first_b} + count_b);
  return {first, end > first ? static_cast<uint32_t>(end - first) : 0};
}

Overlap common_layers(const BlockLayout& a, const BlockLayout& b) {
  return overlap(a.first_layer, a.layers, b.first_layer, b.layers);
}

Overlap common_heads(const BlockLayout& a, const BlockLayout& b) {
  return overlap(a.first_head, a.heads, b.first_head, b.heads);
}

Status check_mapping(const BlockLayout& local, const BlockLayout& remote) {
  const auto differ = [](std::string_view what, uint64_t here, uint64_t there) {
    return unsupported(
        fmt::format("layouts do not map: {} {} here and {} there", what, here, there));
  };
  if (local.parts != remote.parts) return differ("parts", local.parts, remote.parts);
  if (local.vector_bytes != remote.vector_bytes) {
    return differ("bytes of a head's vector", local.vector_bytes, remote.vector_bytes);
  }
  if (local.tokens != remote.tokens) return differ("tokens per block", local.tokens, remote.tokens);
  if (common_layers(local, remote).count == 0) {
    return unsupported(
        fmt::format("layouts do not map: no common layer, {} from {} here and {} from {} there",
                    local.layers, local.first_layer, remote.layers, remote.first_layer));
  }
  if (common_heads(local, remote).count == 0) {
    return unsupported(
        fmt::format("layouts do not map: no common head, {} from {} here and {} from {} there",
                    local.heads, local.first_head, remote.heads, remote.first_head));
  }
  return {};
}

// Bytes from a block's start to the first layer and head that both sides hold.
uint64_t common_offset(const BlockLayout& side, const BlockLayout& other) {
  return (common_layers(side, other).first - side.first_layer) * side.layer_stride +
         side.vector_offset(0, common_heads(side, other).first - side.first_head);
}

bool follows_locally(const RunPair& next, const RunPair& last) {
  return next.local_region == last.local_region &&
         next.local_offset == last.local_offset + last.bytes;
}

bool follows_remotely(const RunPair& next, const RunPair& last) {
  return next.remote_region == last.remote_region &&
         next.remote_offset == last.remote_offset + last.bytes;
}

// Segment of a block. Neighbours in a list mostly share one, so the search starts at the last.
Result<uint32_t> segment_of(const PlanSide& side, uint32_t block, uint32_t hint,
                            std::string_view name) {
  const auto holds = [&](uint32_t i) {
    const PlanSegment& segment = side.segments[i];
    return block >= segment.first_block && block - segment.first_block < segment.blocks;
  };
  if (holds(hint)) return hint;
  for (uint32_t i = 0; i < side.segments.size(); ++i) {
    if (holds(i)) return i;
  }
  return invalid_argument(fmt::format("{} side: block {} lies in no segment", name, block));
}

}  // namespace

// Melt the inner loops into one chunk while their steps are as long as what is inside them.
// Gives how many outer loops stay.
size_t GatherPlan::fold(std::span<const Loop> loops, uint64_t& bytes) {
  size_t left = loops.size();
  while (left > 0) {
    const Loop& inner = loops[left - 1];
    const bool dense = inner.local_stride == bytes && inner.remote_stride == bytes;
    if (inner.count != 1 && !dense) break;
    bytes *= inner.count;
    --left;
  }
  return left;
}

Result<GatherPlan> GatherPlan::create(const PlanSide& local, const PlanSide& remote) {
  if (local.blocks.size() != remote.blocks.size()) {
    return invalid_argument(fmt::format("{} local blocks for {} remote ones; give as many",
                                        local.blocks.size(), remote.blocks.size()));
  }
  MEMPOOL_RETURN_IF_ERROR(check_side(local, "local"));
  MEMPOOL_RETURN_IF_ERROR(check_side(remote, "remote"));
  MEMPOOL_RETURN_IF_ERROR(
      check_mapping(local.segments.front().layout, remote.segments.front().layout));

  GatherPlan plan;
  plan.plan_pieces(local.segments.front(), remote.segments.front());
  MEMPOOL_RETURN_IF_ERROR(plan.place_blocks(local, remote));
  // Where whole remote blocks are one run, all pieces of one follow each other, so that many local
  // pieces gather into it; elsewhere the same piece of consecutive blocks does. Most lists lie in
  // one segment, so that of the first block decides.
  const uint32_t first = plan.anchors_.empty() ? 0 : plan.anchors_.front().remote_segment;
  if (is_aggregated(remote.segments[first].layout)) {
    plan.block_axis_ = 0;
    plan.layer_axis_ = 1;
    plan.part_axis_ = 2;
  }
  plan.select_layers(plan.layers());
  return plan;
}

void GatherPlan::select_layers(LayerRange range) {
  const Overlap walked = overlap(range.first, range.count, first_layer_, layers_);
  from_layer_ = walked.first - first_layer_;
  counts_[layer_axis_] = walked.count;
  counts_[part_axis_] = parts_;
  counts_[block_axis_] = anchors_.size();
  counts_[kRow] = rows_.count;
  counts_[kColumn] = columns_.count;
  if (anchors_.empty() || walked.count == 0) counts_[0] = 0;
  at_ = {};
  taken_ = 0;
  given_ = {};
}

void GatherPlan::plan_pieces(const PlanSegment& local, const PlanSegment& remote) {
  const BlockLayout& here = local.layout;
  const BlockLayout& there = remote.layout;
  first_layer_ = common_layers(here, there).first;
  layers_ = common_layers(here, there).count;
  parts_ = here.parts;
  chunk_bytes_ = here.vector_bytes;
  const Loop tokens{here.tokens, here.vector_offset(1, 0), there.vector_offset(1, 0)};
  const Loop heads{common_heads(here, there).count, here.vector_offset(0, 1),
                   there.vector_offset(0, 1)};
  const std::array loops =
      there.order == TokenOrder::kTokenHead ? std::array{tokens, heads} : std::array{heads, tokens};
  const size_t left = fold(loops, chunk_bytes_);
  if (left > 0) rows_ = loops[0];
  if (left > 1) columns_ = loops[1];
}

Status GatherPlan::place_blocks(const PlanSide& local, const PlanSide& remote) {
  const auto strides = [](const PlanSegment& segment) {
    return Strides{segment.region, segment.layout.layer_stride, segment.layout.part_stride};
  };
  for (const PlanSegment& segment : local.segments) local_.push_back(strides(segment));
  for (const PlanSegment& segment : remote.segments) remote_.push_back(strides(segment));

  anchors_.reserve(local.blocks.size());
  Anchor anchor;
  for (size_t i = 0; i < local.blocks.size(); ++i) {
    MEMPOOL_ASSIGN_OR_RETURN(anchor.local_segment,
                             segment_of(local, local.blocks[i], anchor.local_segment, "local"));
    MEMPOOL_ASSIGN_OR_RETURN(anchor.remote_segment,
                             segment_of(remote, remote.blocks[i], anchor.remote_segment, "remote"));
    const PlanSegment& here = local.segments[anchor.local_segment];
    const PlanSegment& there = remote.segments[anchor.remote_segment];
    anchor.local_offset = (local.blocks[i] - here.first_block) * here.layout.block_stride +
                          common_offset(here.layout, there.layout);
    anchor.remote_offset = (remote.blocks[i] - there.first_block) * there.layout.block_stride +
                           common_offset(there.layout, here.layout);
    anchors_.push_back(anchor);
    paper_calls_ += ranges_of(anchor);
  }
  bytes_ = anchors_.size() * layers_ * parts_ * rows_.count * columns_.count * chunk_bytes_;
  return {};
}

uint64_t GatherPlan::ranges_of(const Anchor& anchor) const {
  const Strides& here = local_[anchor.local_segment];
  const Strides& there = remote_[anchor.remote_segment];
  const std::array loops{Loop{layers_, here.layer, there.layer},
                         Loop{parts_, here.part, there.part}, rows_, columns_};
  uint64_t bytes = chunk_bytes_;
  uint64_t ranges = 1;
  for (size_t left = fold(loops, bytes); left > 0; --left) ranges *= loops[left - 1].count;
  return ranges;
}

RunPair GatherPlan::chunk() const {
  const Anchor& anchor = anchors_[at_[block_axis_]];
  const Strides& here = local_[anchor.local_segment];
  const Strides& there = remote_[anchor.remote_segment];
  const uint64_t layer = from_layer_ + at_[layer_axis_];
  const uint64_t part = at_[part_axis_];
  return {here.region, there.region,
          anchor.local_offset + layer * here.layer + part * here.part +
              at_[kRow] * rows_.local_stride + at_[kColumn] * columns_.local_stride + taken_,
          anchor.remote_offset + layer * there.layer + part * there.part +
              at_[kRow] * rows_.remote_stride + at_[kColumn] * columns_.remote_stride + taken_,
          chunk_bytes_ - taken_};
}

void GatherPlan::advance() {
  taken_ = 0;
  for (size_t axis = kAxes - 1; ++at_[axis] == counts_[axis] && axis > 0; --axis) at_[axis] = 0;
}

size_t GatherPlan::next_call(const CallLimits& limits, std::span<RunPair> out) {
  MEMPOOL_CHECK(limits.local_pieces > 0 && limits.remote_ranges > 0 && limits.bytes > 0);
  MEMPOOL_CHECK(!out.empty());
  size_t pairs = 0;
  uint64_t local_pieces = 0;
  uint64_t remote_ranges = 0;
  uint64_t room = limits.bytes;
  while (room > 0 && !at_end()) {
    RunPair next = chunk();
    const bool local_follows = pairs > 0 && follows_locally(next, out[pairs - 1]);
    const bool remote_follows = pairs > 0 && follows_remotely(next, out[pairs - 1]);
    if (!local_follows && local_pieces == limits.local_pieces) break;
    if (!remote_follows && remote_ranges == limits.remote_ranges) break;
    const bool merges = local_follows && remote_follows;
    if (!merges && pairs == out.size()) break;

    const bool cut = next.bytes > room;
    if (cut) next.bytes = room;
    const bool goes_on =
        given_.bytes > 0 && follows_locally(next, given_) && follows_remotely(next, given_);
    run_pairs_ += !goes_on;
    given_ = next;
    room -= next.bytes;
    local_pieces += !local_follows;
    remote_ranges += !remote_follows;
    if (merges) {
      out[pairs - 1].bytes += next.bytes;
    } else {
      out[pairs++] = next;
    }
    if (cut) {
      taken_ += next.bytes;
    } else {
      advance();
    }
  }
  return pairs;
}

}  // namespace mempool
