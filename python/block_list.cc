// SPDX-License-Identifier: Apache-2.0
// Owns the reading of a sequence of addresses.
#include "python/block_list.h"

#include <fmt/format.h>

namespace mempool::python {

namespace nb = nanobind;

BlockList::BlockList(nb::handle from) {
  if (nb::isinstance<Blocks>(from)) {
    blocks_ = nb::cast<const Blocks&>(from).list;
    return;
  }
  const auto items = nb::steal(PySequence_Fast(
      from.ptr(), "blocks are neither mempool.Blocks nor a sequence of mempool.BlockAddress"));
  if (!items.is_valid()) throw nb::python_error();
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(items.ptr());
  copied_.reserve(static_cast<size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    const nb::handle item(PySequence_Fast_GET_ITEM(items.ptr(), i));
    if (!nb::isinstance<BlockAddress>(item)) {
      throw nb::type_error(fmt::format("block {} is a {}, no mempool.BlockAddress", i,
                                       nb::type_name(item.type()).c_str())
                               .c_str());
    }
    copied_.push_back(nb::cast<const BlockAddress&>(item));
  }
  blocks_ = copied_;
}

nb::object array_of(std::span<const uint32_t> numbers) {
  const std::span<const std::byte> bytes = std::as_bytes(numbers);
  nb::object result = nb::module_::import_("array").attr("array")("I");
  result.attr("frombytes")(nb::bytes(bytes.data(), bytes.size()));
  return result;
}

}  // namespace mempool::python
