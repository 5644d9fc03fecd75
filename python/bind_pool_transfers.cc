// SPDX-License-Identifier: Apache-2.0
// Owns the calls that move blocks to and from peers, as Python sees them.
#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "mempool/pool.h"
#include "python/bindings.h"
#include "python/block_list.h"
#include "python/callback.h"
#include "python/held_transfer.h"
#include "python/pool_handle.h"
#include "python/raised_status.h"
#include "python/readiness.h"
#include "python/token_list.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;
using std::chrono::milliseconds;
using PoolClass = nb::class_<PoolHandle>;

/// The keywords that each transfer takes.
struct Options {
  TransferMode mode;
  const Fence* ready;
  std::optional<double> deadline;
  Medium medium;
  uint64_t request_id;
  const nb::bytes& user_data;
  const std::string& trace;
  const nb::object& on_done;
};

TransferOptions read(const Options& from) {
  TransferOptions options{
      .mode = from.mode, .medium = from.medium, .request_id = from.request_id, .trace = from.trace};
  if (from.ready != nullptr) options.ready = *from.ready;
  options.deadline = deadline_of(from.deadline);
  const auto* const data = reinterpret_cast<const std::byte*>(from.user_data.c_str());
  options.user_data.assign(data, data + from.user_data.size());
  if (!from.on_done.is_none()) options.on_done = callback_of(from.on_done);
  return options;
}

HeldTransfer transfer_with_insert(PoolHandle& self, const std::string& target,
                                  const Content& content, nb::handle tokens, nb::handle blocks,
                                  TransferMode mode, const Fence* ready,
                                  std::optional<double> deadline, Medium medium,
                                  uint64_t request_id, const nb::bytes& user_data,
                                  const std::string& trace, const nb::object& on_done) {
  const TokenList prompt(tokens);
  const BlockList list(blocks);
  const TransferOptions options =
      read({mode, ready, deadline, medium, request_id, user_data, trace, on_done});
  return HeldTransfer(take(self.slow([&](Pool& pool) {
    return pool.transfer_with_insert(target, {content, prompt.span()}, list.span(), options);
  })));
}

HeldTransfer transfer(PoolHandle& self, const std::string& target, nb::handle blocks,
                      nb::handle places, TransferMode mode, const Fence* ready,
                      std::optional<double> deadline, Medium medium, uint64_t request_id,
                      const nb::bytes& user_data, const std::string& trace,
                      const nb::object& on_done) {
  const BlockList from(blocks);
  const BlockList to(places);
  const TransferOptions options =
      read({mode, ready, deadline, medium, request_id, user_data, trace, on_done});
  return HeldTransfer(take(self.slow(
      [&](Pool& pool) { return pool.transfer(target, from.span(), to.span(), options); })));
}

HeldTransfer fetch(PoolHandle& self, const std::string& source, const Content& content,
                   nb::handle tokens, TransferMode mode, const Fence* ready,
                   std::optional<double> deadline, Medium medium, uint64_t request_id,
                   const nb::bytes& user_data, const std::string& trace,
                   const nb::object& on_done) {
  const TokenList prompt(tokens);
  const TransferOptions options =
      read({mode, ready, deadline, medium, request_id, user_data, trace, on_done});
  return HeldTransfer(take(self.slow([&](Pool& pool) {
    return pool.fetch(source, {content, prompt.span()}, options);
  })));
}

/// Define a transfer with the arguments of its own and the keywords of all.
template <typename Function, typename... Own>
void def_transfer(PoolClass& pool, const char* name, Function function, const char* doc,
                  const Own&... own) {
  pool.def(name, function, own..., nb::kw_only(), nb::arg("mode") = TransferMode::kByRequest,
           nb::arg("ready") = nb::none(), nb::arg("deadline") = nb::none(),
           nb::arg("medium") = Medium::kHost, nb::arg("request_id") = 0,
           nb::arg("user_data") = nb::bytes("", 0), nb::arg("trace") = "",
           nb::arg("on_done") = nb::none(), doc);
}

Arrival receive(PoolHandle& self, std::optional<double> timeout) {
  const WaitEnd end = end_of(timeout);
  while (true) {
    // Others may have taken what woke this one.
    Result<Arrival> arrival = self.quick([](Pool& pool) { return pool.receive(milliseconds(0)); });
    if (arrival.ok() || arrival.status().code() != StatusCode::kDeadlineExceeded) {
      return take(std::move(arrival));
    }
    const PoolHandle::Inside inside(self);
    const int event = take(self.quick([](Pool& pool) { return pool.arrival_descriptor(); }));
    if (!wait_readable(event, end)) {
      raise(deadline_exceeded(fmt::format("nothing arrived in {} s", *timeout)));
    }
  }
}

void def_transfers(PoolClass& pool) {
  def_transfer(pool, "transfer_with_insert", &transfer_with_insert,
               R"(Move the KV of a prompt to `target` and make it matchable there, in one operation.

`blocks` cover all tokens, the last one maybe partly; they stay pinned until nothing reads them.
Keywords of each transfer: `mode`; `ready`, a Fence from which on the blocks may be read;
`deadline` in seconds; `request_id` and `user_data` (at most 64 KiB), carried to the Arrival;
`trace`, a W3C traceparent; `on_done`, called with None or an Error on the package's one thread for
that, where it may call everything while the callables of other transfers wait.
Raises at once NotFound for an unknown peer; ResourceExhausted; InvalidArgument; Stale. Later, from
wait(): also Unavailable, DeadlineExceeded, Cancelled, Corruption, Unsupported.)",
               nb::arg("target"), nb::arg("content"), nb::arg("tokens"), nb::arg("blocks"));
  def_transfer(pool, "transfer", &transfer,
               "Move blocks[i] into places[i] at `target`, whole and in no index. A place is a "
               "block that the target holds by alloc(instance=...), or one that an engine there "
               "is filling. Raises as transfer_with_insert(); later also Stale for what is no "
               "place.",
               nb::arg("target"), nb::arg("blocks"), nb::arg("places"));
  def_transfer(pool, "fetch", &fetch,
               "Pull: bring the leading whole blocks of a prompt that `source` holds and this "
               "agent does not, and publish them here; report().serving has the addresses, pinned.",
               nb::arg("source"), nb::arg("content"), nb::arg("tokens"));
}

}  // namespace

void bind_pool_transfers(PoolClass& pool) {
  def_transfers(pool);
  pool.def("receive", &receive, nb::arg("timeout") = nb::none(),
           "Wait up to `timeout` seconds for the next arrival; None waits on. Raises "
           "DeadlineExceeded when none came; Cancelled when the agent stops; Unavailable when the "
           "pool is closed.")
      .def(
          "arrival",
          [](nb::handle self) {
            return nb::module_::import_("mempool.waiting").attr("arrived")(self);
          },
          "To be awaited: the next arrival.")
      .def(
          "arrival_descriptor",
          [](PoolHandle& self) {
            return take(self.quick([](Pool& its) { return its.arrival_descriptor(); }));
          },
          "A descriptor for poll() and select(), readable while an arrival waits; closed with the "
          "pool.")
      .def(
          "add_peer",
          [](PoolHandle& self, const std::string& name, const std::string& address) {
            self.slow([&](Pool& its) { its.add_peer(name, address); });
          },
          nb::arg("name"), nb::arg("address"),
          "Add or change a peer by name and host:port. Connections are made on demand.");
}

}  // namespace mempool::python
