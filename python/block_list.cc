// SPDX-License-Identifier: Apache-2.0
// Owns the reading of a sequence of addresses.
#include "python/block_list.h"

#include <fmt/format.h>

#include "python/sequence.h"

namespace mempool::python {

namespace nb = nanobind;

BlockList::BlockList(nb::handle from) {
  if (nb::isinstance<Blocks>(from)) {
    blocks_ = nb::cast<const Blocks&>(from).list;
    return;
  }
  const nb::tuple items =
      items_of(from, "blocks are neither mempool.Blocks nor a sequence of mempool.BlockAddress");
  copied_.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const nb::handle item = items[i];
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
