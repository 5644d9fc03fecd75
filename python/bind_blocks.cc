// SPDX-License-Identifier: Apache-2.0
// Owns addresses, lists of them and the layout of blocks, as Python sees them.
#include <fmt/format.h>
#include <nanobind/make_iterator.h>
#include <nanobind/nanobind.h>
#include <nanobind/operators.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>

#include "core/checksum.h"
#include "mempool/content.h"
#include "mempool/types.h"
#include "python/bindings.h"
#include "python/block_list.h"
#include "python/raised_status.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

constexpr size_t kAddressBytes = sizeof(BlockAddress);

nb::bytes bytes_of(std::span<const BlockAddress> blocks) {
  return nb::bytes(blocks.data(), blocks.size_bytes());
}

Blocks blocks_from(const nb::bytes& data) {
  if (data.size() % kAddressBytes != 0) {
    raise(invalid_argument(
        fmt::format("{} bytes are no addresses of {} bytes each", data.size(), kAddressBytes)));
  }
  Blocks blocks;
  blocks.list.resize(data.size() / kAddressBytes);
  if (!blocks.list.empty()) std::memcpy(blocks.list.data(), data.data(), data.size());
  for (const BlockAddress& address : blocks.list) {
    if (address.medium() > Medium::kHost) {
      raise(invalid_argument("the bytes are no addresses: one is of a medium that there is not"));
    }
  }
  return blocks;
}

BlockAddress address_from(const nb::bytes& data) {
  if (data.size() != kAddressBytes) {
    raise(invalid_argument(
        fmt::format("an address has {} bytes, not {}", kAddressBytes, data.size())));
  }
  return blocks_from(data).list.front();
}

size_t hash_of(const BlockAddress& address) {
  return static_cast<size_t>(address.incarnation ^ (uint64_t{address.generation} << 32) ^
                             address.place);
}

Blocks slice_of(const Blocks& blocks, const nb::slice& slice) {
  const auto [start, stop, step, count] = slice.compute(blocks.list.size());
  (void)stop;
  Blocks result;
  result.list.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Py_ssize_t at = static_cast<Py_ssize_t>(start) + step * static_cast<Py_ssize_t>(i);
    result.list.push_back(blocks.list[static_cast<size_t>(at)]);
  }
  return result;
}

BlockAddress item_of(const Blocks& blocks, Py_ssize_t at) {
  const auto size = static_cast<Py_ssize_t>(blocks.list.size());
  if (at < 0) at += size;
  if (at < 0 || at >= size) throw nb::index_error("no such block in the list");
  return blocks.list[static_cast<size_t>(at)];
}

Blocks joined(const Blocks& first, nb::handle second) {
  const BlockList more(second);
  Blocks result = first;
  result.list.insert(result.list.end(), more.span().begin(), more.span().end());
  return result;
}

nb::object indices_of(const Blocks& blocks) {
  std::vector<uint32_t> indices;
  indices.reserve(blocks.list.size());
  for (const BlockAddress& block : blocks.list) indices.push_back(block.index());
  return array_of(indices);
}

void bind_address(nb::module_& module) {
  nb::class_<BlockAddress>(module, "BlockAddress",
                           "Names one block of one instance, in 16 bytes. From before a restart or "
                           "a free it is stale, never another block's data.")
      .def_static("from_bytes", &address_from, nb::arg("data"))
      .def("__bytes__",
           [](const BlockAddress& address) { return bytes_of(std::span(&address, 1)); })
      .def_prop_ro("incarnation", [](const BlockAddress& address) { return address.incarnation; })
      .def_prop_ro("generation", [](const BlockAddress& address) { return address.generation; })
      .def_prop_ro("medium", [](const BlockAddress& address) { return address.medium(); })
      .def_prop_ro("index", [](const BlockAddress& address) { return address.index(); })
      .def(nb::self == nb::self)
      .def(nb::self < nb::self)
      .def("__hash__", &hash_of)
      .def("__getstate__",
           [](const BlockAddress& address) { return bytes_of(std::span(&address, 1)); })
      .def("__setstate__",
           [](BlockAddress& self, const nb::bytes& data) {
             new (&self) BlockAddress(address_from(data));
           })
      .def("__repr__", [](const BlockAddress& address) {
        return fmt::format("<mempool.BlockAddress {}>", to_string(address));
      });
}

void bind_list(nb::module_& module) {
  nb::class_<Blocks> list(module, "Blocks",
                          "Addresses of blocks, in 16 bytes each; bytes() of it can be sent to "
                          "another process. Calls take it, or a sequence of BlockAddress.");
  list.attr("__hash__") = nb::none();
  list.def(
          "__init__",
          [](Blocks* self, nb::handle addresses) {
            const nb::object list = nb::cast<nb::list>(
                nb::handle(reinterpret_cast<PyObject*>(&PyList_Type))(addresses));
            const BlockList given(list);
            new (self) Blocks{{given.span().begin(), given.span().end()}};
          },
          nb::arg("addresses") = nb::tuple())
      .def_static("from_bytes", &blocks_from, nb::arg("data"))
      .def("__bytes__", [](const Blocks& blocks) { return bytes_of(blocks.list); })
      .def("__getstate__", [](const Blocks& blocks) { return bytes_of(blocks.list); })
      .def("__setstate__",
           [](Blocks& self, const nb::bytes& data) { new (&self) Blocks(blocks_from(data)); })
      .def_prop_ro("indices", &indices_of, "The index of each, as array('I').")
      .def("__len__", [](const Blocks& blocks) { return blocks.list.size(); })
      .def("__getitem__", &item_of)
      .def("__getitem__", &slice_of)
      .def(
          "__iter__",
          [](const Blocks& blocks) {
            return nb::make_iterator(nb::type<Blocks>(), "_BlocksIterator", blocks.list.begin(),
                                     blocks.list.end());
          },
          nb::keep_alive<0, 1>())
      .def("__contains__",
           [](const Blocks& blocks, nb::handle address) {
             return nb::isinstance<BlockAddress>(address) &&
                    std::ranges::find(blocks.list, nb::cast<const BlockAddress&>(address)) !=
                        blocks.list.end();
           })
      .def("__add__", &joined)
      .def(
          "__eq__", [](const Blocks& left, const Blocks& right) { return left.list == right.list; },
          nb::is_operator())
      .def("__repr__", [](const Blocks& blocks) {
        return fmt::format("<mempool.Blocks of {}>", blocks.list.size());
      });
}

}  // namespace

void bind_blocks(nb::module_& module) {
  bind_address(module);
  bind_list(module);
  module.def(
      "picks",
      [](const std::string& verify, const BlockAddress& block) {
        return picks(take(parse_verify(verify)), block.index(), block.generation);
      },
      nb::arg("verify"), nb::arg("block"),
      "Tell whether an agent whose `verify` is this (off, sampled, always) seals the block with a "
      "checksum, which read() compares. Raises InvalidArgument for another word.");
  nb::class_<BlockLayout> layout(
      module, "BlockLayout",
      "Where the piece of (block, layer, part) starts in a segment: block * "
      "block_stride + layer * layer_stride + part * part_stride. In bytes.");
  layout.attr("__hash__") = nb::none();
  layout.def_ro("layers", &BlockLayout::layers)
      .def_ro("parts", &BlockLayout::parts, "2: K and V; 1: MLA.")
      .def_ro("heads", &BlockLayout::heads)
      .def_ro("tokens", &BlockLayout::tokens)
      .def_ro("first_layer", &BlockLayout::first_layer)
      .def_ro("first_head", &BlockLayout::first_head)
      .def_ro("replicated", &BlockLayout::replicated)
      .def_ro("order", &BlockLayout::order)
      .def_ro("vector_bytes", &BlockLayout::vector_bytes, "Of one head's vector of one token.")
      .def_ro("piece_bytes", &BlockLayout::piece_bytes)
      .def_ro("block_bytes", &BlockLayout::block_bytes, "In one shard.")
      .def_ro("block_stride", &BlockLayout::block_stride)
      .def_ro("layer_stride", &BlockLayout::layer_stride)
      .def_ro("part_stride", &BlockLayout::part_stride)
      .def(nb::self == nb::self);
}

}  // namespace mempool::python
