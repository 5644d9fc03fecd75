// SPDX-License-Identifier: Apache-2.0
// Owns the calls on blocks, index and memory, as Python sees them.
#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "mempool/pool.h"
#include "python/adopted_tensor.h"
#include "python/bindings.h"
#include "python/block_list.h"
#include "python/buffer_export.h"
#include "python/callback.h"
#include "python/pool_handle.h"
#include "python/raised_status.h"
#include "python/read_options.h"
#include "python/readiness.h"
#include "python/sequence.h"
#include "python/token_list.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;
using std::chrono::milliseconds;

// ---- blocks ----------------------------------------------------------------------------------

Blocks alloc(PoolHandle& self, size_t count, Medium medium,
             const std::optional<std::string>& instance, std::optional<double> deadline) {
  if (!instance) {
    return {take(self.quick([&](Pool& pool) { return pool.alloc(count, medium); }))};
  }
  const milliseconds wait = deadline_of(deadline);
  return {take(self.slow([&](Pool& pool) { return pool.alloc(count, medium, *instance, wait); }))};
}

template <Status (Pool::*kCall)(std::span<const BlockAddress>)>
void on_blocks(PoolHandle& self, nb::handle blocks) {
  const BlockList list(blocks);
  check(self.quick([&](Pool& pool) { return (pool.*kCall)(list.span()); }));
}

ArrayView piece(PoolHandle& self, const BlockAddress& block, uint32_t layer, uint32_t part,
                uint32_t shard) {
  check(self.quick([&](Pool& pool) { return pool.piece(block, layer, part, shard).status(); }));
  return self.view(self.holding(block, shard).first, block, layer, part);
}

ArrayView segment(PoolHandle& self, size_t segment, uint32_t shard) {
  return self.view(take(self.quick([&](Pool& pool) { return pool.segment(segment, shard); })));
}

BlockLayout layout(PoolHandle& self, size_t segment, uint32_t shard) {
  return take(self.quick([&](Pool& pool) { return pool.segment(segment, shard); })).layout;
}

size_t segments(PoolHandle& self) {
  for (size_t number = 0;; ++number) {
    const auto its = self.quick([&](Pool& pool) { return pool.segment(number, 0); });
    if (its.ok()) continue;
    if (its.status().code() == StatusCode::kNotFound) return number;
    raise(its.status());
  }
}

nb::tuple segment_of(PoolHandle& self, const BlockAddress& block) {
  check(self.quick([&](Pool& pool) { return pool.piece(block, 0, 0).status(); }));
  const auto [segment, number] = self.holding(block, 0);
  return nb::make_tuple(number, block.index() - segment.first_block);
}

nb::object read(PoolHandle& self, const BlockAddress& block, const nb::object& out) {
  if (out.is_none()) {
    const auto bytes_of = [](Pool& pool) { return pool.shards() * pool.layout().block_bytes; };
    const auto size = static_cast<Py_ssize_t>(self.quick(bytes_of));
    nb::object result = nb::steal(PyBytes_FromStringAndSize(nullptr, size));
    if (!result.is_valid()) throw nb::python_error();
    auto* const data = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(result.ptr()));
    check(self.slow(
        [&](Pool& pool) { return pool.read(block, std::span(data, static_cast<size_t>(size))); }));
    return result;
  }
  const BufferExport into(out, PyBUF_WRITABLE);
  check(self.slow([&](Pool& pool) { return pool.read(block, into.bytes()); }));
  return nb::none();
}

// ---- memory of the engine's own --------------------------------------------------------------

void adopt(PoolHandle& self, const std::string& name, const std::vector<AdoptedTensor>& shards,
           uint32_t blocks, bool insert_in_place) {
  const SegmentView own = take(self.quick([](Pool& pool) { return pool.segment(0); }));
  AdoptOptions options{.blocks = blocks, .insert_in_place = insert_in_place};
  for (const AdoptedTensor& shard : shards) {
    check(shard.check(own.element, own.layout, blocks));
    options.shards.push_back(shard.memory);
  }
  check(self.slow([&](Pool& pool) { return pool.adopt(name, options); }));
}

Blocks claim(PoolHandle& self, const std::string& name, nb::handle blocks) {
  const TokenList numbers(blocks, "block");
  return {take(self.quick([&](Pool& pool) { return pool.claim(name, numbers.span()); }))};
}

void withdraw(PoolHandle& self, const std::string& name, double timeout) {
  const milliseconds wait = milliseconds_of(timeout, "timeout");
  check(self.slow([&](Pool& pool) { return pool.withdraw(name, wait); }));
  end_objects();  // the tensors are the engine's alone once this returns
}

// ---- index -----------------------------------------------------------------------------------

InsertResult insert(PoolHandle& self, const Content& content, nb::handle tokens,
                    nb::handle blocks) {
  const TokenList prompt(tokens);
  const BlockList list(blocks);
  return take(self.slow([&](Pool& pool) {
    return pool.insert({content, prompt.span()}, list.span());
  }));
}

MatchResult match(PoolHandle& self, const Content& content, nb::handle tokens) {
  const TokenList prompt(tokens);
  return self.quick([&](Pool& pool) { return pool.match({content, prompt.span()}); });
}

size_t erase(PoolHandle& self, const Content& content, nb::handle tokens) {
  const TokenList prompt(tokens);
  return self.slow([&](Pool& pool) { return pool.erase({content, prompt.span()}); });
}

/// The keys of one argument. Thread: confined.
class KeyList {
 public:
  /// Raises TypeError for what is no sequence of bytes and str.
  explicit KeyList(nb::handle from)
      : held_(items_of(from, "keys are no sequence of bytes and str")) {
    if (PyUnicode_Check(from.ptr())) throw nb::type_error("keys are one str; give a list of them");
    views_.reserve(held_.size());
    for (const nb::handle key : held_) append(key.ptr());
  }
  std::span<const std::string_view> span() const { return views_; }

 private:
  void append(PyObject* key) {
    Py_ssize_t size = 0;
    if (PyBytes_Check(key)) {
      views_.emplace_back(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key));
    } else if (const char* const text = PyUnicode_AsUTF8AndSize(key, &size)) {
      views_.emplace_back(text, size);
    } else {
      PyErr_Clear();
      throw nb::type_error(fmt::format("key {} is neither bytes nor str", views_.size()).c_str());
    }
  }

  const nb::tuple held_;  // whose items have the bytes
  std::vector<std::string_view> views_;
};

InsertResult insert_keys(PoolHandle& self, nb::handle keys, nb::handle blocks) {
  const KeyList names(keys);
  const BlockList list(blocks);
  return take(self.slow([&](Pool& pool) { return pool.insert_keys(names.span(), list.span()); }));
}

Blocks match_keys(PoolHandle& self, nb::handle keys) {
  const KeyList names(keys);
  return {take(self.slow([&](Pool& pool) { return pool.match_keys(names.span()); }))};
}

size_t erase_keys(PoolHandle& self, nb::handle keys) {
  const KeyList names(keys);
  return take(self.slow([&](Pool& pool) { return pool.erase_keys(names.span()); }));
}

// ---- what Python is told ---------------------------------------------------------------------

using PoolClass = nb::class_<PoolHandle>;

void def_life(PoolClass& pool) {
  pool.def("close", &PoolHandle::close,
           "End it, with the calls that other threads wait in. Open transfers raise Cancelled, and "
           "calls from here on Unavailable. Agents that are left open are closed when the program "
           "ends.")
      .def_prop_ro("closed", &PoolHandle::closed)
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); })
      .def(
          "__exit__", [](PoolHandle& self, nb::handle, nb::handle, nb::handle) { self.close(); },
          nb::arg().none(), nb::arg().none(), nb::arg().none())
      .def(
          "content",
          [](PoolHandle& self, nb::handle spec) {
            const ContentSpec read = read_content_spec(spec);
            return take(self.quick([&](Pool& pool) { return pool.content(read); }));
          },
          nb::arg("spec"),
          "Name the KV of a spec of this pool's shape. Raises InvalidArgument, naming the "
          "dimension "
          "that differs.");
}

void def_blocks(PoolClass& pool) {
  pool.def("alloc", &alloc, nb::arg("count"), nb::arg("medium") = Medium::kHost,
           nb::arg("instance") = nb::none(), nb::arg("deadline") = nb::none(),
           R"(Take free blocks, evicting unpinned ones when needed; each is pinned for the caller.

With `instance` that peer holds them, as places for transfer(); this waits for its answer, for
`deadline` seconds. Raises ResourceExhausted; Unsupported for a medium that is not there; with an
instance also NotFound, Unavailable and DeadlineExceeded.)")
      .def(
          "free", &on_blocks<&Pool::free>, nb::arg("blocks"),
          "Give blocks back, all or none. Raises Stale; InvalidArgument for one that others pin or "
          "the index holds.")
      .def("pin", &on_blocks<&Pool::pin>, nb::arg("blocks"))
      .def("unpin", &on_blocks<&Pool::unpin>, nb::arg("blocks"),
           "Let go; the last unpin of a block that no index holds frees it.")
      .def_prop_ro(
          "shards",
          [](PoolHandle& self) { return self.quick([](Pool& pool) { return pool.shards(); }); },
          "Tensor-parallel ranks: every block lies in each of these shards.")
      .def_prop_ro("segments", &segments, "How many segments there are now, adopted ones too.")
      .def("layout", &layout, nb::arg("segment") = 0, nb::arg("shard") = 0,
           "The strides of a segment's blocks. Raises NotFound.")
      .def("piece", &piece, nb::arg("block"), nb::arg("layer"), nb::arg("part"),
           nb::arg("shard") = 0,
           "One layer's K (part 0) or V (part 1) of a block, as (tokens, heads, head_size), or "
           "(heads, tokens, head_size) in a pool of TokenOrder.HEAD_TOKEN. Raises Stale; "
           "InvalidArgument.")
      .def("segment", &segment, nb::arg("segment") = 0, nb::arg("shard") = 0,
           "All blocks of a segment, as (blocks, layers, parts) and the axes of piece(): the array "
           "through which an engine reads and writes its paged KV. Raises NotFound.")
      .def(
          "segment_of", &segment_of, nb::arg("block"),
          "Give (segment, row): where segment() has the block. Raises Stale, as for one of a peer.")
      .def(
          "read", &read, nb::arg("block"), nb::arg("out") = nb::none(),
          "Copy a sealed block out, shard by shard, each in (layer, part) order: as bytes, or into "
          "the writable buffer `out` of shards * layout().block_bytes bytes. Raises Stale when it "
          "was freed meanwhile; Corruption when its bytes are not those sealed.");
}

void def_memory(PoolClass& pool) {
  pool.def("adopt", &adopt, nb::arg("name"), nb::arg("shards"), nb::kw_only(), nb::arg("blocks"),
           nb::arg("insert_in_place") = false,
           R"(Take an engine's tensors in, under a name, as blocks that it fills.

`shards` is a list of AdoptedMemory: all, in rank order; of an attached rank its own. An agent of
this process keeps them, by their export, until withdraw() or its end and as long as arrays of them
are there; a bytearray cannot be resized meanwhile. Raises AlreadyExists; InvalidArgument for
another dtype, shape, or strides that overlap; PermissionDenied for a descriptor that may be
resized; ResourceExhausted.)")
      .def("claim", &claim, nb::arg("name"), nb::arg("blocks"),
           "Give the addresses of adopted blocks (ints) that the caller fills from now on, pinned. "
           "Raises NotFound; Unavailable; ResourceExhausted for one that is in use.")
      .def("withdraw", &withdraw, nb::arg("name"), nb::arg("timeout") = 5.0,
           "Let go of adopted memory, waiting up to `timeout` seconds for who uses it. Raises "
           "NotFound; DeadlineExceeded, with it still adopted.");
}

void def_index(PoolClass& pool) {
  pool.def("insert", &insert, nb::arg("content"), nb::arg("tokens"), nb::arg("blocks"),
           R"(Seal and publish one block for each whole token block of the prompt, in order.

`tokens` is a sequence of ints or, without a copy, a contiguous array of uint32 or int32; arrays of
64 bits are converted. Raises InvalidArgument, naming the token, for one out of range.)")
      .def("match", &match, nb::arg("content"), nb::arg("tokens"),
           "Find and pin the longest published prefix, in whole blocks.")
      .def("erase", &erase, nb::arg("content"), nb::arg("tokens"),
           "Remove the prompt's last whole block and all that continues it; gives how many blocks.")
      .def("insert_keys", &insert_keys, nb::arg("keys"), nb::arg("blocks"),
           "Seal and publish blocks[i] under keys[i] (bytes, or str as UTF-8), all or none.")
      .def("match_keys", &match_keys, nb::arg("keys"),
           "Find and pin the blocks of the leading keys that are held.")
      .def("erase_keys", &erase_keys, nb::arg("keys"),
           "Remove those keys that are held; gives how many.");
}

void bind_results(nb::module_& module) {
  nb::class_<InsertResult>(module, "InsertResult")
      .def_ro("admitted", &InsertResult::admitted, "Leading blocks that are matchable now.")
      .def_prop_ro(
          "serving", [](const InsertResult& result) { return Blocks{result.serving}; },
          "Per admitted block the address that answers for its tokens.")
      .def_prop_ro(
          "duplicates", [](const InsertResult& result) { return Blocks{result.duplicates}; },
          "Of the caller's blocks, those already published by another; they stay his.");
  nb::class_<MatchResult>(module, "Match")
      .def_ro("tokens", &MatchResult::tokens, "How many are covered, in whole blocks.")
      .def_prop_ro(
          "blocks", [](const MatchResult& result) { return Blocks{result.blocks}; },
          "In token order, each pinned for the caller.");
}

}  // namespace

void bind_pool(nb::module_& module) {
  bind_results(module);
  PoolClass pool(module, "Pool", nb::is_weak_referenceable(),
                 "What an engine asks of its agent. Any thread may. A context manager.");
  def_life(pool);
  def_blocks(pool);
  def_memory(pool);
  def_index(pool);
  bind_pool_transfers(pool);
}

}  // namespace mempool::python
