// SPDX-License-Identifier: Apache-2.0
// Owns the arithmetic of nested strides.
#include "core/adopted_layout.h"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

struct Axis {
  std::string_view name;
  uint64_t* stride;
  uint64_t count;
};

Status check_nested(std::span<const Axis> axes, const BlockLayout& layout, uint64_t bytes) {
  uint64_t extent = layout.piece_bytes;
  for (const Axis& axis : axes) {
    uint64_t last = 0;
    if (*axis.stride < extent) {
      return invalid_argument(
          fmt::format("{}_stride is {}, and what lies inside of it takes {} bytes: they overlap",
                      axis.name, *axis.stride, extent));
    }
    if (__builtin_mul_overflow(*axis.stride, axis.count - 1, &last) ||
        __builtin_add_overflow(extent, last, &extent) || extent > bytes) {
      return invalid_argument(
          fmt::format("{} times a {}_stride of {} are more than the {} bytes of the memory",
                      axis.count, axis.name, *axis.stride, bytes));
    }
  }
  return {};
}

}  // namespace

Result<BlockLayout> adopted_layout(const BlockLayout& own, const AdoptedMemory& memory,
                                   uint32_t blocks) {
  if (memory.data == nullptr || memory.bytes < own.piece_bytes || blocks == 0 ||
      blocks - 1 > BlockAddress::kIndexMax) {
    return invalid_argument(
        fmt::format("{} blocks in {} bytes of memory: give both, and as much as blocks have",
                    blocks, memory.data == nullptr ? 0 : memory.bytes));
  }
  BlockLayout layout = own;
  layout.block_stride = memory.block_stride;
  layout.layer_stride = memory.layer_stride;
  layout.part_stride = memory.part_stride;
  std::array<Axis, 3> all = {{{"block", &layout.block_stride, blocks},
                              {"layer", &layout.layer_stride, layout.layers},
                              {"part", &layout.part_stride, layout.parts}}};
  const auto single = std::ranges::stable_partition(all, [](const Axis& a) { return a.count > 1; });
  const std::span<const Axis> axes(all.begin(), single.begin());
  std::ranges::sort(all.begin(), single.begin(), {}, [](const Axis& axis) { return *axis.stride; });
  MEMPOOL_RETURN_IF_ERROR(check_nested(axes, layout, memory.bytes));
  for (const Axis& axis : axes) {
    const uint64_t period = layout.block_stride * blocks;
    if (blocks == 1 || *axis.stride <= layout.block_stride || *axis.stride % period == 0) continue;
    return invalid_argument(fmt::format(
        "{}_stride is {}, no multiple of the {} bytes of {} block_strides: peers that read tell "
        "blocks apart by that",
        axis.name, *axis.stride, period, blocks));
  }
  for (const Axis& axis : single) *axis.stride = memory.bytes;  // of one only, and never stepped by
  return layout;
}

}  // namespace mempool
