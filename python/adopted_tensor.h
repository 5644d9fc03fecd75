// SPDX-License-Identifier: Apache-2.0
// Owns the tensors of an engine as Python hands them over to be adopted.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <vector>

#include "mempool/adopt.h"
#include "mempool/content.h"
#include "mempool/status.h"

namespace mempool::python {

/// One shard of an engine's tensors, and what is known of their elements. Thread: confined.
struct AdoptedTensor {
  AdoptedMemory memory;  // its owner exports the tensor, which cannot be resized meanwhile
  nanobind::dlpack::dtype dtype;
  std::vector<uint64_t> shape;  // of all six axes; empty for memory that came with its strides

  /// Errors: kInvalidArgument for elements or axes that are not those of the pool's pieces.
  Status check(ElementType element, const BlockLayout& layout, uint32_t blocks) const;
};

void bind_adopted_tensor(nanobind::module_& module);

}  // namespace mempool::python
