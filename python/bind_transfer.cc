// SPDX-License-Identifier: Apache-2.0
// Owns transfers under way, what they did and what arrived, as Python sees them.
#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "mempool/pool.h"
#include "python/bindings.h"
#include "python/block_list.h"
#include "python/held_transfer.h"
#include "python/raised_status.h"
#include "python/readiness.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

/// Ask a transfer something without the GIL: its state may be locked over a round trip.
template <typename Function>
auto ask(const HeldTransfer& self, Function function) {
  check(self.made_in.check());
  const nb::gil_scoped_release released;
  return function(self.transfer);
}

bool done(const HeldTransfer& self) {
  return ask(self, [](const Transfer& transfer) { return transfer.done(); });
}

int descriptor_of(const HeldTransfer& self) {
  return take(ask(self, [](const Transfer& transfer) { return transfer.event_descriptor(); }));
}

void wait_for(const HeldTransfer& self, std::optional<double> timeout) {
  const WaitEnd end = end_of(timeout);
  if (!done(self) && !wait_readable(descriptor_of(self), end)) {
    raise(deadline_exceeded(
        fmt::format("the transfer goes on after {} s of waiting for it", *timeout)));
  }
  check(ask(self, [](const Transfer& transfer) { return transfer.wait(); }));
}

TransferReport report_of(const HeldTransfer& self) {
  if (!done(self)) raise(unavailable("the transfer is under way: wait() before its report()"));
  return ask(self, [](const Transfer& transfer) { return transfer.report(); });
}

void cancel(HeldTransfer& self) {
  ask(self, [](Transfer transfer) { transfer.cancel(); });
}

void send_layers(HeldTransfer& self, uint32_t first, uint32_t count, const Fence* ready) {
  const Fence fence = ready != nullptr ? *ready : Fence();
  check(ask(self, [&](Transfer transfer) { return transfer.send_layers(first, count, fence); }));
}

void commit(HeldTransfer& self) {
  check(ask(self, [](Transfer transfer) { return transfer.commit(); }));
}

void bind_fence(nb::module_& module) {
  nb::class_<Fence>(module, "Fence",
                    "A moment in the engine's work from which on memory may be read; signal() "
                    "reaches it, from any thread.")
      .def("__init__", [](Fence* self) { new (self) Fence(Fence::pending()); })
      .def("signal", &Fence::signal, nb::call_guard<nb::gil_scoped_release>(),
           "The work before it is done. What waits for it is sent from here on.")
      .def("reached", &Fence::reached);
}

void bind_report(nb::module_& module) {
  nb::class_<TransferReport>(module, "TransferReport",
                             "What one transfer did, and how long its phases took (us).")
      .def_ro("transport", &TransferReport::transport, "\"tcp\"; empty when nothing had to move.")
      .def_ro("route", &TransferReport::route)
      .def_ro("bytes", &TransferReport::bytes)
      .def_ro("bytes_saved", &TransferReport::bytes_saved, "Of blocks the target had already.")
      .def_ro("tokens", &TransferReport::tokens)
      .def_ro("tokens_matched", &TransferReport::tokens_matched)
      .def_ro("paper_calls", &TransferReport::paper_calls)
      .def_ro("run_pair_calls", &TransferReport::run_pair_calls)
      .def_ro("network_calls", &TransferReport::network_calls)
      .def_ro("system_calls", &TransferReport::system_calls)
      .def_ro("doorbells", &TransferReport::doorbells)
      .def_ro("completions", &TransferReport::completions)
      .def_ro("prepare_us", &TransferReport::prepare_us)
      .def_ro("post_us", &TransferReport::post_us)
      .def_ro("complete_us", &TransferReport::complete_us)
      .def_prop_ro(
          "serving", [](const TransferReport& report) { return Blocks{report.serving}; },
          "Blocks at the target, of a fetch here and pinned, in token order.");
}

void bind_arrival(nb::module_& module) {
  nb::class_<Arrival>(module, "Arrival",
                      "KV that arrived. Every block is pinned for the caller; unpin() gives them "
                      "back. By transfer() there are no tokens, and the blocks are the places.")
      .def_ro("source", &Arrival::source)
      .def_ro("transfer", &Arrival::transfer)
      .def_ro("request_id", &Arrival::request_id)
      .def_prop_ro("user_data",
                   [](const Arrival& arrival) {
                     return nb::bytes(arrival.user_data.data(), arrival.user_data.size());
                   })
      .def_ro("content", &Arrival::content)
      .def_prop_ro(
          "tokens", [](const Arrival& arrival) { return array_of(arrival.tokens); },
          "A new array('I').")
      .def_prop_ro("blocks", [](const Arrival& arrival) { return Blocks{arrival.blocks}; })
      .def_ro("last_block_tokens", &Arrival::last_block_tokens)
      .def_ro("tokens_matched", &Arrival::tokens_matched);
}

}  // namespace

void bind_transfer(nb::module_& module) {
  bind_fence(module);
  bind_report(module);
  bind_arrival(module);
  nb::class_<HeldTransfer>(module, "Transfer",
                           "A transfer under way. It always ends by its deadline; dropping it does "
                           "not cancel. `await` gives its report, or raises as wait() does.")
      .def("wait", &wait_for, nb::arg("timeout") = nb::none(),
           "Block until it ended, and raise how unless well. DeadlineExceeded where it goes on "
           "after `timeout` seconds.")
      .def("done", &done)
      .def("cancel", &cancel,
           "Take it back; wait() then raises Cancelled, or nothing when the commit was quicker.")
      .def("send_layers", &send_layers, nb::arg("first"), nb::arg("count"),
           nb::arg("ready") = nb::none(),
           "By layer: move these layers (from 0) of all blocks once `ready` is reached; nobody "
           "writes to them from then on. Raises InvalidArgument for layers that were handed over "
           "before or that the model does not have; Unavailable when it has ended.")
      .def("commit", &commit,
           "By layer: all layers have been handed over. Raises InvalidArgument naming one that was "
           "not; Unavailable when it has ended.")
      .def("report", &report_of, "What it did. Raises Unavailable before it ended.")
      .def(
          "fileno", &descriptor_of,
          "A descriptor for poll() and select(), readable once it ended; closed with the transfer.")
      .def("__await__", [](nb::handle self) {
        return nb::module_::import_("mempool.waiting").attr("ended")(self).attr("__await__")();
      });
}

}  // namespace mempool::python
