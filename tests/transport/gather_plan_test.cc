// SPDX-License-Identifier: Apache-2.0
// Tests the gather plan against an oracle that copies vector by vector.
#include "transport/gather_plan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <numeric>
#include <set>
#include <tuple>

namespace mempool {
namespace {

struct Shape {
  uint32_t layers = 1;
  uint32_t parts = 2;
  uint32_t heads = 1;
  uint32_t tokens = 1;
  uint32_t first_layer = 0;
  uint32_t first_head = 0;
  uint64_t vector_bytes = 1;
};

// `gap` bytes lie unused behind each piece, as in memory that an engine laid out.
BlockLayout lay_out(const Shape& shape, BlockForm form, TokenOrder order, uint32_t blocks,
                    uint64_t gap = 0) {
  BlockLayout layout;
  layout.layers = shape.layers;
  layout.parts = shape.parts;
  layout.heads = shape.heads;
  layout.tokens = shape.tokens;
  layout.first_layer = shape.first_layer;
  layout.first_head = shape.first_head;
  layout.order = order;
  layout.vector_bytes = shape.vector_bytes;
  layout.piece_bytes = shape.heads * shape.tokens * shape.vector_bytes;
  layout.block_bytes = shape.layers * shape.parts * layout.piece_bytes;
  const uint64_t piece = layout.piece_bytes + gap;
  if (form == BlockForm::kDiscrete) {
    layout.block_stride = piece;
    layout.part_stride = piece * blocks;
  } else {
    layout.part_stride = piece;
    layout.block_stride = piece * shape.parts * shape.layers;
  }
  layout.layer_stride = layout.part_stride * shape.parts;
  return layout;
}

// One side with memory behind its segments.
struct Side {
  std::vector<PlanSegment> segments;
  std::vector<uint32_t> blocks;
  std::map<uint32_t, std::vector<uint8_t>> regions;

  PlanSide plan() const { return {segments, blocks}; }

  void add_segment(uint32_t region, uint32_t blocks_in_it, const BlockLayout& layout) {
    const uint32_t first =
        segments.empty() ? 0 : segments.back().first_block + segments.back().blocks;
    segments.push_back({region, first, blocks_in_it, layout});
    const uint64_t end = layout.piece_offset(blocks_in_it - 1, layout.layers - 1, layout.parts - 1);
    regions[region].resize(end + layout.piece_bytes);
  }

  uint8_t* vector_at(uint32_t block, uint32_t layer, uint32_t part, uint32_t token, uint32_t head) {
    for (const PlanSegment& segment : segments) {
      if (block < segment.first_block || block - segment.first_block >= segment.blocks) continue;
      const BlockLayout& layout = segment.layout;
      return regions[segment.region].data() +
             layout.piece_offset(block - segment.first_block, layer - layout.first_layer, part) +
             layout.vector_offset(token, head - layout.first_head);
    }
    return nullptr;
  }
};

bool in_range(uint32_t value, uint32_t first, uint32_t count) {
  return value >= first && value - first < count;
}

// The oracle: what each vector of the remote side must become, one at a time.
void copy_by_coordinates(Side& local, Side& remote) {
  const BlockLayout& here = local.segments.front().layout;
  const BlockLayout& there = remote.segments.front().layout;
  for (size_t i = 0; i < local.blocks.size(); ++i) {
    for (uint32_t layer = here.first_layer; layer < here.first_layer + here.layers; ++layer) {
      if (!in_range(layer, there.first_layer, there.layers)) continue;
      for (uint32_t head = here.first_head; head < here.first_head + here.heads; ++head) {
        if (!in_range(head, there.first_head, there.heads)) continue;
        for (uint32_t part = 0; part < here.parts; ++part) {
          for (uint32_t token = 0; token < here.tokens; ++token) {
            std::copy_n(local.vector_at(local.blocks[i], layer, part, token, head),
                        here.vector_bytes,
                        remote.vector_at(remote.blocks[i], layer, part, token, head));
          }
        }
      }
    }
  }
}

struct Applied {
  uint64_t calls = 0;
  uint64_t pairs = 0;
  uint64_t bytes = 0;
};

uint64_t count_runs(std::vector<std::tuple<uint32_t, uint64_t, uint64_t>> ranges) {
  uint64_t runs = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const auto& [region, offset, bytes] = ranges[i];
    const bool follows = i > 0 && std::get<0>(ranges[i - 1]) == region &&
                         std::get<1>(ranges[i - 1]) + std::get<2>(ranges[i - 1]) == offset;
    runs += !follows;
  }
  return runs;
}

// Apply a plan's calls to the remote memory, holding each to its limits.
Applied apply(GatherPlan& plan, Side& local, Side& remote, const CallLimits& limits,
              size_t pairs_max) {
  Applied applied;
  std::vector<RunPair> out(pairs_max);
  while (const size_t count = plan.next_call(limits, out)) {
    std::vector<std::tuple<uint32_t, uint64_t, uint64_t>> here;
    std::vector<std::tuple<uint32_t, uint64_t, uint64_t>> there;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      const RunPair& pair = out[i];
      here.emplace_back(pair.local_region, pair.local_offset, pair.bytes);
      there.emplace_back(pair.remote_region, pair.remote_offset, pair.bytes);
      bytes += pair.bytes;
      EXPECT_GT(pair.bytes, 0u);
      EXPECT_LE(pair.local_offset + pair.bytes, local.regions[pair.local_region].size());
      EXPECT_LE(pair.remote_offset + pair.bytes, remote.regions[pair.remote_region].size());
      std::copy_n(local.regions[pair.local_region].data() + pair.local_offset, pair.bytes,
                  remote.regions[pair.remote_region].data() + pair.remote_offset);
    }
    EXPECT_LE(count_runs(here), limits.local_pieces);
    EXPECT_LE(count_runs(there), limits.remote_ranges);
    EXPECT_LE(bytes, limits.bytes);
    ++applied.calls;
    applied.pairs += count;
    applied.bytes += bytes;
  }
  return applied;
}

std::vector<uint32_t> some_blocks(uint32_t of, size_t count) {
  std::vector<uint32_t> all(of);
  std::iota(all.begin(), all.end(), 0);
  // A rotation keeps runs, a shuffle breaks them; both kinds occur.
  if (*rc::gen::arbitrary<bool>()) {
    const auto seed = *rc::gen::arbitrary<uint64_t>();
    for (size_t i = all.size(); i > 1; --i) {
      std::swap(all[i - 1], all[(seed >> (i % 32)) * 2654435761u % i]);
    }
  } else {
    const auto by = *rc::gen::inRange<uint32_t>(0, of);
    std::rotate(all.begin(), all.begin() + by, all.end());
  }
  all.resize(count);
  return all;
}

Side some_side(const Shape& shape, uint32_t first_region) {
  Side side;
  const auto form = *rc::gen::element(BlockForm::kDiscrete, BlockForm::kAggregated);
  const auto order = *rc::gen::element(TokenOrder::kTokenHead, TokenOrder::kHeadToken);
  const auto gap = *rc::gen::element<uint64_t>(0, 0, 3);
  const auto segments = *rc::gen::inRange<uint32_t>(1, 4);
  for (uint32_t i = 0; i < segments; ++i) {
    const auto blocks = *rc::gen::inRange<uint32_t>(1, 6);
    side.add_segment(first_region + i, blocks, lay_out(shape, form, order, blocks, gap));
  }
  return side;
}

RC_GTEST_PROP(GatherPlan, moves_each_vector_to_its_place_and_nothing_else, ()) {
  Shape here;
  here.layers = *rc::gen::inRange<uint32_t>(1, 5);
  here.parts = *rc::gen::inRange<uint32_t>(1, 3);
  here.heads = *rc::gen::inRange<uint32_t>(1, 5);
  here.tokens = *rc::gen::inRange<uint32_t>(1, 4);
  here.first_layer = *rc::gen::inRange<uint32_t>(0, 3);
  here.first_head = *rc::gen::inRange<uint32_t>(0, 3);
  here.vector_bytes = *rc::gen::inRange<uint64_t>(1, 5);
  Shape there = here;
  if (*rc::gen::arbitrary<bool>()) {
    there.first_layer = *rc::gen::inRange(here.first_layer, here.first_layer + here.layers);
    there.first_head = *rc::gen::inRange(here.first_head, here.first_head + here.heads);
    there.layers = *rc::gen::inRange<uint32_t>(1, 5);
    there.heads = *rc::gen::inRange<uint32_t>(1, 5);
  }
  Side local = some_side(here, 10);
  Side remote = some_side(there, 20);
  const auto total = [](const Side& side) {
    return side.segments.back().first_block + side.segments.back().blocks;
  };
  const size_t count = *rc::gen::inRange<size_t>(0, std::min(total(local), total(remote)) + 1);
  local.blocks = some_blocks(total(local), count);
  remote.blocks = some_blocks(total(remote), count);
  uint8_t fill = 0;
  for (auto& [region, bytes] : local.regions) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(++fill | 1);
  }

  CallLimits limits;
  limits.local_pieces = *rc::gen::inRange<uint32_t>(1, 9);
  limits.remote_ranges = *rc::gen::inRange<uint32_t>(1, 5);
  limits.bytes = *rc::gen::element<uint64_t>(1, 7, 64, 1000, UINT64_MAX);
  const auto pairs_max = *rc::gen::inRange<size_t>(1, 12);

  Side expected = remote;
  copy_by_coordinates(local, expected);
  Result<GatherPlan> plan = GatherPlan::create(local.plan(), remote.plan());
  RC_ASSERT(plan.ok());
  const Applied moved = apply(*plan, local, remote, limits, pairs_max);
  RC_ASSERT(remote.regions == expected.regions);
  RC_ASSERT(moved.bytes == plan->bytes());
  RC_ASSERT(moved.pairs >= moved.calls);
}

RC_GTEST_PROP(GatherPlan, layers_walked_by_ranges_in_any_order_move_all_of_it, ()) {
  Shape here;
  here.layers = *rc::gen::inRange<uint32_t>(1, 6);
  here.heads = *rc::gen::inRange<uint32_t>(1, 3);
  here.tokens = *rc::gen::inRange<uint32_t>(1, 4);
  here.first_layer = *rc::gen::inRange<uint32_t>(0, 3);
  Shape there = here;
  there.first_layer = here.first_layer + *rc::gen::inRange<uint32_t>(0, here.layers);
  Side local = some_side(here, 10);
  Side remote = some_side(there, 20);
  local.blocks = {local.segments.back().first_block};
  remote.blocks = {0};
  for (auto& [region, bytes] : local.regions) std::iota(bytes.begin(), bytes.end(), uint8_t{1});
  std::vector<LayerRange> ranges;
  for (uint32_t layer = here.first_layer; layer < here.first_layer + here.layers;) {
    const auto left = here.first_layer + here.layers - layer;
    const LayerRange range{layer, *rc::gen::inRange<uint32_t>(1, left + 1)};
    ranges.insert(ranges.begin() + *rc::gen::inRange<long>(0, std::ssize(ranges) + 1), range);
    layer += range.count;
  }

  Side expected = remote;
  copy_by_coordinates(local, expected);
  Result<GatherPlan> plan = GatherPlan::create(local.plan(), remote.plan());
  RC_ASSERT(plan.ok());
  RC_ASSERT(plan->layers().first == there.first_layer);
  plan->select_layers({});
  RC_ASSERT(apply(*plan, local, remote, {}, 4).calls == 0u);
  uint64_t bytes = 0;
  for (const LayerRange& range : ranges) {
    plan->select_layers(range);
    bytes += apply(*plan, local, remote, {}, 4).bytes;
  }
  RC_ASSERT(bytes == plan->bytes());
  RC_ASSERT(remote.regions == expected.regions);
}

// 1,024 tokens of Llama-2-13B: 64 blocks of 16 tokens, 40 layers, 40 heads of 128 fp16 elements.
constexpr uint32_t kPaperBlocks = 64;

Shape llama_13b() {
  Shape shape;
  shape.layers = 40;
  shape.heads = 40;
  shape.tokens = 16;
  shape.vector_bytes = 256;
  return shape;
}

// Segments of other sizes than 64 and block lists with gaps, so that nothing merges by accident.
Side paper_side(BlockForm form, uint32_t region, bool consecutive,
                TokenOrder order = TokenOrder::kTokenHead) {
  Side side;
  const uint32_t blocks = 2 * kPaperBlocks + 1;
  side.segments.push_back({region, 0, blocks, lay_out(llama_13b(), form, order, blocks)});
  for (uint32_t i = 0; i < kPaperBlocks; ++i) side.blocks.push_back(consecutive ? i : 2 * i);
  return side;
}

struct Counted {
  uint64_t calls = 0;
  uint64_t pairs = 0;
};

Counted count_calls(GatherPlan& plan, const CallLimits& limits) {
  Counted counted;
  std::vector<RunPair> out(4096);
  while (const size_t pairs = plan.next_call(limits, out)) {
    ++counted.calls;
    counted.pairs += pairs;
  }
  return counted;
}

GatherPlan plan_of(const Side& local, const Side& remote) {
  return GatherPlan::create(local.plan(), remote.plan()).value();
}

TEST(GatherPlan, counts_the_papers_calls_as_the_paper_does) {
  const Side discrete = paper_side(BlockForm::kDiscrete, 1, true);
  const Side aggregated = paper_side(BlockForm::kAggregated, 2, true);
  EXPECT_EQ(plan_of(discrete, discrete).paper_calls(), 5120u);
  EXPECT_EQ(plan_of(discrete, aggregated).paper_calls(), 5120u);
  EXPECT_EQ(plan_of(aggregated, discrete).paper_calls(), 5120u);
  EXPECT_EQ(plan_of(aggregated, aggregated).paper_calls(), 64u);
}

TEST(GatherPlan, consecutive_blocks_of_discrete_sides_merge_into_a_run_for_each_layer_and_part) {
  GatherPlan plan =
      plan_of(paper_side(BlockForm::kDiscrete, 1, true), paper_side(BlockForm::kDiscrete, 2, true));
  EXPECT_EQ(count_calls(plan, {}).calls, 80u);
}

TEST(GatherPlan, consecutive_blocks_of_aggregated_sides_merge_into_one_run) {
  GatherPlan plan = plan_of(paper_side(BlockForm::kAggregated, 1, true),
                            paper_side(BlockForm::kAggregated, 2, true));
  EXPECT_EQ(count_calls(plan, {}).calls, 1u);
}

TEST(GatherPlan, scattered_blocks_do_not_merge) {
  GatherPlan discrete = plan_of(paper_side(BlockForm::kDiscrete, 1, false),
                                paper_side(BlockForm::kDiscrete, 2, false));
  EXPECT_EQ(count_calls(discrete, {}).calls, 5120u);
  GatherPlan aggregated = plan_of(paper_side(BlockForm::kAggregated, 1, false),
                                  paper_side(BlockForm::kAggregated, 2, false));
  EXPECT_EQ(count_calls(aggregated, {}).calls, 64u);
}

TEST(GatherPlan, blocks_merge_by_the_form_of_their_own_segment_not_of_the_sides_first) {
  Side remote = paper_side(BlockForm::kDiscrete, 2, true);
  const BlockLayout other = lay_out(llama_13b(), BlockForm::kAggregated, TokenOrder::kTokenHead, 1);
  remote.segments[0].first_block = 1;
  remote.segments.insert(remote.segments.begin(), {3, 0, 1, other});
  for (uint32_t& block : remote.blocks) ++block;
  GatherPlan plan = plan_of(paper_side(BlockForm::kDiscrete, 1, true), remote);
  EXPECT_EQ(count_calls(plan, {}).calls, 80u);
}

TEST(GatherPlan, gathering_divides_the_calls_by_the_pieces_that_one_takes) {
  const Side discrete = paper_side(BlockForm::kDiscrete, 1, false);
  const Side aggregated = paper_side(BlockForm::kAggregated, 2, false);
  GatherPlan one_by_one = plan_of(discrete, aggregated);
  const Counted single = count_calls(one_by_one, {});
  for (const uint32_t gather : {2u, 4u, 16u, 80u, 200u}) {
    GatherPlan plan = plan_of(discrete, aggregated);
    // A remote run is one block of 80 pieces here: more than that never fit one call.
    const uint32_t pieces = std::min(gather, 80u);
    const Counted gathered = count_calls(plan, {gather, 1, UINT64_MAX});
    EXPECT_EQ(gathered.calls * pieces, single.calls) << gather;
    EXPECT_EQ(gathered.pairs, single.pairs) << gather;
  }
}

TEST(GatherPlan, scattering_gathers_remote_runs_that_cross_consecutive_blocks) {
  // Local blocks lie apart, remote ones are neighbours: each layer's part is one remote run.
  GatherPlan plan = plan_of(paper_side(BlockForm::kAggregated, 1, false),
                            paper_side(BlockForm::kDiscrete, 2, true));
  EXPECT_EQ(count_calls(plan, {64, 1, UINT64_MAX}).calls, 80u);
}

TEST(GatherPlan, remote_ranges_let_one_call_take_many_pairs) {
  GatherPlan plan = plan_of(paper_side(BlockForm::kDiscrete, 1, false),
                            paper_side(BlockForm::kDiscrete, 2, false));
  const Counted counted = count_calls(plan, {1000, 1000, UINT64_MAX});
  EXPECT_EQ(counted.calls, 6u);  // 5,120 pairs, 1,000 a call
  EXPECT_EQ(counted.pairs, 5120u);
  EXPECT_EQ(plan.run_pairs(), 5120u);
}

TEST(GatherPlan, a_byte_limit_cuts_a_run_and_goes_on_behind_the_cut) {
  GatherPlan plan = plan_of(paper_side(BlockForm::kAggregated, 1, true),
                            paper_side(BlockForm::kAggregated, 2, true));
  std::vector<RunPair> out(1);
  ASSERT_EQ(plan.next_call({1, 1, 1000}, out), 1u);
  EXPECT_EQ(out[0], (RunPair{1, 2, 0, 0, 1000}));
  ASSERT_EQ(plan.next_call({}, out), 1u);
  EXPECT_EQ(out[0], (RunPair{1, 2, 1000, 1000, plan.bytes() - 1000}));
  EXPECT_EQ(plan.next_call({}, out), 0u);
  EXPECT_EQ(plan.run_pairs(), 1u);  // one run, however often it is cut
}

TEST(GatherPlan, other_order_moves_vector_by_vector) {
  const Side token_head = paper_side(BlockForm::kAggregated, 1, true);
  const Side head_token = paper_side(BlockForm::kAggregated, 2, true, TokenOrder::kHeadToken);
  EXPECT_EQ(plan_of(token_head, head_token).paper_calls(), 64u * 80 * 16 * 40);
}

TEST(GatherPlan, a_share_of_the_heads_stays_whole_in_head_token_order) {
  Shape half = llama_13b();
  half.heads = 20;
  half.first_head = 20;
  for (const auto& [order, ranges] : {std::pair{TokenOrder::kHeadToken, 80u * 64},
                                      std::pair{TokenOrder::kTokenHead, 80u * 64 * 16}}) {
    Side remote;
    remote.segments.push_back({2, 0, 64, lay_out(half, BlockForm::kAggregated, order, 64)});
    remote.blocks.resize(64);
    std::iota(remote.blocks.begin(), remote.blocks.end(), 0);
    EXPECT_EQ(plan_of(paper_side(BlockForm::kAggregated, 1, true, order), remote).paper_calls(),
              ranges);
  }
}

class GatherPlanRefusal : public testing::Test {
 protected:
  GatherPlanRefusal() {
    local_.add_segment(1, 4, lay_out(shape_, BlockForm::kDiscrete, TokenOrder::kTokenHead, 4));
    remote_.add_segment(2, 4, lay_out(shape_, BlockForm::kDiscrete, TokenOrder::kTokenHead, 4));
    local_.blocks = remote_.blocks = {0, 1};
  }
  Status refusal() const { return GatherPlan::create(local_.plan(), remote_.plan()).status(); }
  BlockLayout& layout() { return remote_.segments[0].layout; }

  Shape shape_{.layers = 2, .parts = 2, .heads = 2, .tokens = 2, .vector_bytes = 4};
  Side local_;
  Side remote_;
};

TEST_F(GatherPlanRefusal, nothing_is_refused_as_it_stands) {
  EXPECT_TRUE(refusal().ok());
}

TEST_F(GatherPlanRefusal, lists_of_different_length) {
  remote_.blocks.pop_back();
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, a_block_outside_the_segments) {
  remote_.blocks[1] = 4;
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, no_segments) {
  remote_.segments.clear();
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, segments_of_different_shape) {
  Shape other = shape_;
  other.heads = 1;
  remote_.add_segment(3, 4, lay_out(other, BlockForm::kDiscrete, TokenOrder::kTokenHead, 4));
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, strides_that_would_wrap) {
  layout().layer_stride = UINT64_MAX;
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, a_piece_that_is_not_heads_times_tokens_times_vector) {
  layout().piece_bytes += 1;
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, a_dimension_of_zero) {
  layout().tokens = 0;
  EXPECT_EQ(refusal().code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherPlanRefusal, another_part_count_vector_or_block_length) {
  const auto with = [&](auto change) {
    Shape other = shape_;
    change(other);
    remote_.segments[0].layout = lay_out(other, BlockForm::kDiscrete, TokenOrder::kTokenHead, 4);
    return refusal().code();
  };
  EXPECT_EQ(with([](Shape& shape) { shape.parts = 1; }), StatusCode::kUnsupported);
  EXPECT_EQ(with([](Shape& shape) { shape.vector_bytes = 8; }), StatusCode::kUnsupported);
  EXPECT_EQ(with([](Shape& shape) { shape.tokens = 4; }), StatusCode::kUnsupported);
  EXPECT_EQ(with([](Shape& shape) { shape.first_layer = 2; }), StatusCode::kUnsupported);
  EXPECT_EQ(with([](Shape& shape) { shape.first_head = 2; }), StatusCode::kUnsupported);
}

}  // namespace
}  // namespace mempool
