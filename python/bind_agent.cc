// SPDX-License-Identifier: Apache-2.0
// Owns the start of an agent, the door to one of another process, and what operators ask.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "agent/status_json.h"
#include "mempool/agent.h"
#include "mempool/attach.h"
#include "python/bindings.h"
#include "python/pool_handle.h"
#include "python/raised_status.h"
#include "python/read_options.h"
#include "python/readiness.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

/// A pool of an agent in another process. Thread: safe.
class AttachedHandle final : public PoolHandle {
 public:
  explicit AttachedHandle(std::unique_ptr<Pool> pool) : PoolHandle(std::move(pool), true) {}
};

Agent& agent_of(Pool& pool) {
  return static_cast<Agent&>(pool);
}

/// Hand a pool over to Python, which closes it before it ends.
template <typename Handle>
nb::object given(std::unique_ptr<Handle> handle) {
  nb::object pool = nb::cast(handle.release(), nb::rv_policy::take_ownership);
  nb::module_::import_("mempool._mempool").attr("_open_pools").attr("add")(pool);
  return pool;
}

nb::object start(const nb::object& options, const nb::kwargs& fields) {
  nb::object all = options;
  if (all.is_none()) {
    all = nb::module_::import_("mempool.options").attr("AgentOptions")(**fields);
  } else if (fields.size() > 0) {
    all = nb::module_::import_("dataclasses").attr("replace")(options, **fields);
  }
  const AgentOptions read = read_agent_options(all);
  Result<std::unique_ptr<Agent>> agent = [&] {
    const nb::gil_scoped_release released;
    return Agent::start(read);
  }();
  check(agent.status());
  const AgentStatus status = (*agent)->status();
  return given(std::make_unique<AgentHandle>(std::move(*agent), status));
}

nb::object attach_to(const std::string& path, uint32_t shard, uint32_t shards,
                     const nb::object& placement, double timeout) {
  AttachOptions options{.path = path, .shard = shard, .shards = shards};
  if (!placement.is_none()) options.placement = read_placement(placement);
  options.timeout = milliseconds_of(timeout, "timeout");
  Result<std::unique_ptr<Pool>> pool = [&] {
    const nb::gil_scoped_release released;
    return attach(options);
  }();
  check(pool.status());
  return given(std::make_unique<AttachedHandle>(std::move(*pool)));
}

nb::object status_of(AgentHandle& self) {
  const AgentStatus status = self.slow([](Pool& pool) { return agent_of(pool).status(); });
  const std::string json = status_json(status);
  return nb::module_::import_("json").attr("loads")(nb::bytes(json.data(), json.size()));
}

void drain(AgentHandle& self, double timeout) {
  const auto wait = milliseconds_of(timeout, "timeout");
  check(self.slow([&](Pool& pool) { return agent_of(pool).drain(wait); }));
}

void grow(AgentHandle& self, uint32_t blocks) {
  check(self.slow([&](Pool& pool) { return agent_of(pool).grow(blocks); }));
}

void shrink(AgentHandle& self, double timeout) {
  const auto wait = milliseconds_of(timeout, "timeout");
  check(self.slow([&](Pool& pool) { return agent_of(pool).shrink(wait); }));
}

void bind_attach(nb::module_& module) {
  nb::class_<AttachedHandle, PoolHandle>(module, "AttachedPool",
                                         "The pool of an agent of this host, mapped here.");
  module.def("attach", &attach_to, nb::arg("path"), nb::kw_only(), nb::arg("shard") = 0,
             nb::arg("shards") = 1, nb::arg("placement") = nb::none(), nb::arg("timeout") = 5.0,
             R"(Attach to the agent of this host that listens at `path` (its agent.engine_socket).

`shard` of `shards` is this rank of the engine; all ranks attach. `placement` is what it expects,
`timeout` the seconds for each answer. Once the agent has gone, match() finds nothing and every
other call raises Unavailable. Raises Unavailable; AlreadyExists when another process has this rank;
InvalidArgument; PermissionDenied for another user; Unsupported for another version.)");
}

}  // namespace

void bind_agent(nb::module_& module) {
  bind_attach(module);
  nb::class_<AgentHandle, PoolHandle>(module, "Agent",
                                      R"(An agent inside this process, with one thread of its own.

In a fork of the process every call raises Unavailable, and its blocks are not mapped.)")
      .def_static("start", &start, nb::arg("options") = nb::none(), nb::arg("fields"),
                  R"(Start from AgentOptions, from its fields as keywords, or from both.

Raises InvalidArgument for options that make no agent; ResourceExhausted for a pool the machine
cannot give; PermissionDenied for a bind beyond loopback without a token; Unavailable when a
required transport cannot open.)")
      .def_ro("name", &AgentHandle::name)
      .def_ro("listen", &AgentHandle::listen, "host:port that was bound.")
      .def("status", &status_of, "What `mempool status --json` gives: pool, index, peers, audit.")
      .def(
          "metrics",
          [](AgentHandle& self) {
            return self.slow([](Pool& pool) { return agent_of(pool).metrics(); });
          },
          "In Prometheus' text form.")
      .def("drain", &drain, nb::arg("timeout") = 30.0,
           "Refuse transfers from now on, for good, and wait for those that are open. Raises "
           "DeadlineExceeded.")
      .def("grow", &grow, nb::arg("blocks"), "Add a segment. Raises ResourceExhausted.")
      .def("shrink", &shrink, nb::arg("timeout") = 5.0,
           "Give the last segment's memory back, when its blocks are free; arrays of it read as "
           "zeros then. Raises DeadlineExceeded, naming what is in use.");
}

}  // namespace mempool::python
