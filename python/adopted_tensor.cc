// SPDX-License-Identifier: Apache-2.0
// Owns the strides and the checks of an engine's tensor.
#include "python/adopted_tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "python/array_view.h"
#include "python/callback.h"
#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;
using Code = nb::dlpack::dtype_code;
using Tensor = nb::ndarray<nb::device::cpu>;

constexpr size_t kAxes = 6;  // blocks, layers, parts, and the three of a piece

Tensor import_tensor(nb::handle from) {
  Tensor tensor;
  if (!nb::try_cast(from, tensor, false) || !tensor.is_valid()) {
    throw nb::type_error(
        "what is adopted is a writable array in host memory: one of numpy or torch, or a buffer");
  }
  return tensor;
}

/// Keep what exports the memory, not just the object: that may make another tensor, or move its
/// own.
std::shared_ptr<const void> owner_of(const Tensor& tensor) {
  return shared_object(nb::capsule(new Tensor(tensor),
                                   [](void* held) noexcept { delete static_cast<Tensor*>(held); }));
}

AdoptedTensor of_memory(nb::handle data, uint64_t block_stride, uint64_t layer_stride,
                        uint64_t part_stride, int descriptor) {
  const Tensor tensor = import_tensor(data);
  int64_t below = 1;
  for (size_t axis = tensor.ndim(); axis-- > 0;) {
    if (tensor.shape(axis) != 1 && tensor.stride(axis) != below) {
      raise(invalid_argument(
          fmt::format("axis {} of the memory does not lie behind the axes after it: give a "
                      "contiguous array, or AdoptedMemory.of() a tensor of blocks",
                      axis)));
    }
    below *= static_cast<int64_t>(tensor.shape(axis));
  }
  AdoptedTensor result{.dtype = tensor.dtype()};
  result.memory = {static_cast<std::byte*>(static_cast<void*>(tensor.data())),
                   tensor.nbytes(),
                   descriptor,
                   block_stride,
                   layer_stride,
                   part_stride,
                   owner_of(tensor)};
  return result;
}

AdoptedTensor of_tensor(nb::handle from, int descriptor) {
  const Tensor tensor = import_tensor(from);
  if (tensor.ndim() != kAxes) {
    raise(invalid_argument(fmt::format(
        "the tensor has {} axes; it is (blocks, layers, parts) and the three of a piece",
        tensor.ndim())));
  }
  AdoptedTensor result{.dtype = tensor.dtype()};
  const auto size = static_cast<int64_t>(tensor.itemsize());
  uint64_t bytes = tensor.itemsize();  // from the first byte to behind the last
  std::array<uint64_t, kAxes> strides{};
  for (size_t axis = 0; axis < kAxes; ++axis) {
    if (tensor.shape(axis) == 0 || tensor.stride(axis) < 0) {
      raise(invalid_argument(fmt::format(
          "axis {} of the tensor is empty or runs backwards; its blocks need to lie forwards",
          axis)));
    }
    result.shape.push_back(tensor.shape(axis));
    strides[axis] = static_cast<uint64_t>(tensor.stride(axis) * size);
    bytes += (tensor.shape(axis) - 1) * strides[axis];
  }
  uint64_t below = tensor.itemsize();
  for (size_t axis = kAxes; axis-- > 3;) {
    if (tensor.shape(axis) != 1 && strides[axis] != below) {
      raise(invalid_argument(
          fmt::format("axis {} of the tensor lies {} bytes apart, and a piece is contiguous, with "
                      "{} there: permute the first three axes only",
                      axis, strides[axis], below)));
    }
    below *= tensor.shape(axis);
  }
  result.memory = {static_cast<std::byte*>(static_cast<void*>(tensor.data())),
                   bytes,
                   descriptor,
                   strides[0],
                   strides[1],
                   strides[2],
                   owner_of(tensor)};
  return result;
}

}  // namespace

Status AdoptedTensor::check(ElementType element, const BlockLayout& layout, uint32_t blocks) const {
  const nb::dlpack::dtype own = dtype_of(element);
  const bool bare = dtype.code == static_cast<uint8_t>(Code::UInt) && dtype.lanes == 1 &&
                    (dtype.bits == own.bits || (dtype.bits == 8 && shape.empty()));
  if (dtype != own && !bare) {
    return invalid_argument(
        fmt::format("the tensor's dtype is not that of the pool's elements ({} bytes): allocate it "
                    "in the content's, or as unsigned integers of as many bits",
                    own.bits / 8));
  }
  if (shape.empty()) return {};
  const bool by_token = layout.order == TokenOrder::kTokenHead;
  const std::vector<uint64_t> wanted = {
      blocks,
      layout.layers,
      layout.parts,
      by_token ? layout.tokens : layout.heads,
      by_token ? layout.heads : layout.tokens,
      layout.vector_bytes / (own.bits / 8),
  };
  if (shape == wanted) return {};
  return invalid_argument(fmt::format(
      "the tensor's shape is ({}), and blocks of this pool's placement are ({}): (blocks, layers, "
      "parts, {}, elements of a head)",
      fmt::join(shape, ", "), fmt::join(wanted, ", "),
      by_token ? "tokens, heads" : "heads, tokens"));
}

void bind_adopted_tensor(nb::module_& module) {
  nb::class_<AdoptedTensor>(module, "AdoptedMemory",
                            R"(One shard of an engine's tensors, for adopt().

The piece of (block, layer, part) starts at block * block_stride + layer * layer_stride + part *
part_stride bytes behind the first byte of `data`, any contiguous writable array in host memory.
`descriptor` is the memfd, sealed against growing and shrinking, whose first byte that is; -1 for
anonymous memory, which an embedded agent alone adopts. of() takes the strides from one tensor of
shape (blocks, layers, parts, tokens, heads, head_size), or (..., heads, tokens, head_size) in a
pool of TokenOrder.HEAD_TOKEN, whose first three axes may lie in any order.)")
      .def(
          "__init__",
          [](AdoptedTensor* self, nb::handle data, uint64_t block_stride, uint64_t layer_stride,
             uint64_t part_stride, int descriptor) {
            new (self)
                AdoptedTensor(of_memory(data, block_stride, layer_stride, part_stride, descriptor));
          },
          nb::arg("data"), nb::arg("block_stride"), nb::arg("layer_stride"), nb::arg("part_stride"),
          nb::arg("descriptor") = -1)
      .def_static("of", &of_tensor, nb::arg("tensor"), nb::kw_only(), nb::arg("descriptor") = -1)
      .def_prop_ro("nbytes", [](const AdoptedTensor& self) { return self.memory.bytes; })
      .def_prop_ro("block_stride",
                   [](const AdoptedTensor& self) { return self.memory.block_stride; })
      .def_prop_ro("layer_stride",
                   [](const AdoptedTensor& self) { return self.memory.layer_stride; })
      .def_prop_ro("part_stride",
                   [](const AdoptedTensor& self) { return self.memory.part_stride; });
}

}  // namespace mempool::python
