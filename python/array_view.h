// SPDX-License-Identifier: Apache-2.0
// Owns blocks as arrays: a view without a copy, by the buffer protocol and by DLPack.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "mempool/content.h"
#include "mempool/pool.h"

namespace mempool::python {

/// The dtype that DLPack has for an element.
nanobind::dlpack::dtype dtype_of(ElementType element);

/// Memory of a pool, writable. Thread: confined.
struct ArrayView {
  std::byte* data = nullptr;
  std::vector<Py_ssize_t> shape;
  std::vector<Py_ssize_t> strides;  // in bytes
  ElementType element = ElementType::kFloat16;
  std::shared_ptr<const void> memory;  // shared with the pool: keeps it mapped, or the tensor

  /// All of a segment: (blocks, layers, parts) and a piece's three axes.
  static ArrayView of(const SegmentView& segment);
  /// One piece of a block. Requires: the segment has it.
  static ArrayView of(const SegmentView& segment, const BlockAddress& block, uint32_t layer,
                      uint32_t part);
};

void bind_array_view(nanobind::module_& module);

}  // namespace mempool::python
