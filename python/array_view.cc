// SPDX-License-Identifier: Apache-2.0
// Owns the axes of a segment and a piece, and how both protocols are told them.
#include "python/array_view.h"

#include <nanobind/stl/string.h>

#include <algorithm>

namespace mempool::python {
namespace {

namespace nb = nanobind;
using Code = nb::dlpack::dtype_code;

constexpr int kDeviceCpu = 1;  // of DLPack

/// The letter of the struct module. There is none for bfloat16 and float8: they come as the
/// unsigned integers of their bits.
const char* format_of(ElementType element) {
  switch (element) {
    case ElementType::kFloat32:
      return "f";
    case ElementType::kFloat16:
      return "e";
    case ElementType::kBfloat16:
      return "H";
    case ElementType::kFloat8E4m3:
    case ElementType::kFloat8E5m2:
      return "B";
    case ElementType::kInt8:
      return "b";
  }
  return "B";
}

bool is_contiguous(const ArrayView& view) {
  Py_ssize_t below = element_bytes(view.element);
  for (size_t axis = view.shape.size(); axis-- > 0;) {
    if (view.shape[axis] != 1 && view.strides[axis] != below) return false;
    below *= view.shape[axis];
  }
  return true;
}

Py_ssize_t bytes_of(const ArrayView& view) {
  Py_ssize_t bytes = element_bytes(view.element);
  for (const Py_ssize_t extent : view.shape) bytes *= extent;
  return bytes;
}

/// Write the axes of one piece behind those that `view` has.
void append_piece_axes(ArrayView& view, const BlockLayout& layout, ElementType element) {
  const auto element_size = static_cast<Py_ssize_t>(element_bytes(element));
  const auto vector = static_cast<Py_ssize_t>(layout.vector_bytes);
  const bool by_token = layout.order == TokenOrder::kTokenHead;
  const Py_ssize_t outer = by_token ? layout.tokens : layout.heads;
  const Py_ssize_t inner = by_token ? layout.heads : layout.tokens;
  view.shape.insert(view.shape.end(), {outer, inner, vector / element_size});
  view.strides.insert(view.strides.end(), {inner * vector, vector, element_size});
}

int refuse_buffer(Py_buffer* buffer, const char* words) {
  PyErr_SetString(PyExc_BufferError, words);
  buffer->obj = nullptr;
  return -1;
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) {
  if (!nb::inst_ready(self)) return refuse_buffer(buffer, "the array was never made");
  const auto& view = *nb::inst_ptr<ArrayView>(self);
  const auto asks = [flags](int kind) { return (flags & kind) == kind; };
  const bool strided = asks(PyBUF_STRIDES);
  if (asks(PyBUF_F_CONTIGUOUS) && !asks(PyBUF_ANY_CONTIGUOUS)) {
    return refuse_buffer(buffer, "the last axis lies closest, not the first");
  }
  if (!is_contiguous(view) &&
      (!strided || asks(PyBUF_C_CONTIGUOUS) || asks(PyBUF_ANY_CONTIGUOUS))) {
    return refuse_buffer(buffer, "the segment's blocks do not lie in the order of its axes");
  }
  // The object has them as long as the buffer holds it.
  *buffer = {};
  buffer->buf = view.data;
  buffer->obj = nb::borrow(self).release().ptr();
  buffer->len = bytes_of(view);
  buffer->itemsize = element_bytes(view.element);
  buffer->ndim = static_cast<int>(view.shape.size());
  if ((flags & PyBUF_FORMAT) != 0) buffer->format = const_cast<char*>(format_of(view.element));
  if ((flags & PyBUF_ND) != 0) buffer->shape = const_cast<Py_ssize_t*>(view.shape.data());
  if (strided) buffer->strides = const_cast<Py_ssize_t*>(view.strides.data());
  return 0;
}

PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {0, nullptr}};

nb::object to_dlpack(nb::handle self, const nb::kwargs& options) {
  const auto& view = nb::cast<const ArrayView&>(self);
  const auto size = static_cast<int64_t>(element_bytes(view.element));
  std::vector<size_t> shape(view.shape.begin(), view.shape.end());
  std::vector<int64_t> strides;
  for (const Py_ssize_t stride : view.strides) strides.push_back(stride / size);
  const nb::ndarray<nb::array_api> array(view.data, shape.size(), shape.data(), self,
                                         strides.data(), dtype_of(view.element), kDeviceCpu);
  return nb::cast(array).attr("__dlpack__")(**options);
}

nb::tuple tuple_of(const std::vector<Py_ssize_t>& numbers) {
  nb::list list;
  for (const Py_ssize_t number : numbers) list.append(number);
  return nb::tuple(list);
}

}  // namespace

nb::dlpack::dtype dtype_of(ElementType element) {
  const auto bits = static_cast<uint8_t>(element_bytes(element) * 8);
  switch (element) {
    case ElementType::kFloat32:
    case ElementType::kFloat16:
      return {static_cast<uint8_t>(Code::Float), bits, 1};
    case ElementType::kBfloat16:
      return {static_cast<uint8_t>(Code::Bfloat), bits, 1};
    case ElementType::kFloat8E4m3:
      return {static_cast<uint8_t>(Code::Float8_E4M3FN), bits, 1};
    case ElementType::kFloat8E5m2:
      return {static_cast<uint8_t>(Code::Float8_E5M2), bits, 1};
    case ElementType::kInt8:
      return {static_cast<uint8_t>(Code::Int), bits, 1};
  }
  return {};
}

ArrayView ArrayView::of(const SegmentView& segment) {
  const BlockLayout& layout = segment.layout;
  ArrayView view{.data = segment.data,
                 .shape = {segment.blocks, layout.layers, layout.parts},
                 .element = segment.element,
                 .memory = segment.memory};
  for (const uint64_t stride : {layout.block_stride, layout.layer_stride, layout.part_stride}) {
    view.strides.push_back(static_cast<Py_ssize_t>(stride));
  }
  append_piece_axes(view, layout, segment.element);
  return view;
}

ArrayView ArrayView::of(const SegmentView& segment, const BlockAddress& block, uint32_t layer,
                        uint32_t part) {
  const uint64_t offset =
      segment.layout.piece_offset(block.index() - segment.first_block, layer, part);
  ArrayView view{
      .data = segment.data + offset, .element = segment.element, .memory = segment.memory};
  append_piece_axes(view, segment.layout, segment.element);
  return view;
}

void bind_array_view(nb::module_& module) {
  nb::class_<ArrayView>(module, "ArrayView", nb::type_slots(slots),
                        R"(Blocks of a pool as a writable array, without a copy.

numpy.asarray() takes it by the buffer protocol, where bfloat16 comes as uint16 and float8 as uint8;
torch.from_dlpack() has the true dtype. It keeps the memory mapped, also past the pool's close();
an attached pool stays attached as long. The caller keeps the blocks pinned. A child that was
forked may not touch it.)")
      .def_prop_ro("shape", [](const ArrayView& view) { return tuple_of(view.shape); })
      .def_prop_ro(
          "strides", [](const ArrayView& view) { return tuple_of(view.strides); }, "In bytes.")
      .def_ro("element", &ArrayView::element)
      .def_prop_ro("nbytes", &bytes_of)
      .def("__dlpack__", &to_dlpack)
      .def("__dlpack_device__", [](const ArrayView&) { return nb::make_tuple(kDeviceCpu, 0); });
}

}  // namespace mempool::python
