// SPDX-License-Identifier: Apache-2.0
// Owns the fields of each dataclass by name.
#include "python/read_options.h"

#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "python/buffer_export.h"
#include "python/readiness.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

[[noreturn]] void refuse(const char* name, nb::handle value) {
  throw nb::type_error(fmt::format("{} cannot be {}", name, nb::repr(value).c_str()).c_str());
}

void check_class(nb::handle from, const char* name) {
  const nb::object wanted = nb::module_::import_("mempool.options").attr(name);
  if (nb::isinstance(from, wanted)) return;
  throw nb::type_error(fmt::format("{} is no mempool.{}", nb::repr(from).c_str(), name).c_str());
}

/// Give any mapping as a dict.
nb::dict dict_of(nb::handle value, const char* name) {
  if (!nb::hasattr(value, "keys")) refuse(name, value);
  return nb::cast<nb::dict>(nb::handle(reinterpret_cast<PyObject*>(&PyDict_Type))(value));
}

template <typename T>
void read_value(nb::handle value, const char* name, T& into) {
  if (!nb::try_cast(value, into)) refuse(name, value);
}

void read_value(nb::handle value, const char* name, std::vector<std::byte>& into) {
  if (PyObject_CheckBuffer(value.ptr()) == 0) refuse(name, value);
  const BufferExport bytes(value, PyBUF_SIMPLE);
  into.assign(bytes.bytes().begin(), bytes.bytes().end());
}

void read_value(nb::handle value, const char* name, std::chrono::milliseconds& into) {
  double seconds = 0;
  read_value(value, name, seconds);
  into = milliseconds_of(seconds, name);
}

void read_value(nb::handle value, const char*, ContentSpec& into) {
  into = read_content_spec(value);
}

void read_value(nb::handle value, const char*, Placement& into) {
  into = read_placement(value);
}

// Lists and maps of any kind, but no string, which is a sequence as well.
template <typename T>
void read_value(nb::handle value, const char* name, std::vector<T>& into) {
  if (PyUnicode_Check(value.ptr())) refuse(name, value);
  read_value<std::vector<T>>(value, name, into);
}

void read_value(nb::handle value, const char* name, std::map<std::string, std::string>& into) {
  read_value<std::map<std::string, std::string>>(dict_of(value, name), name, into);
}

void read_value(nb::handle value, const char* name, std::map<std::string, TenantOptions>& into);

template <typename T>
void read(nb::handle from, const char* name, T& into) {
  const nb::object value = from.attr(name);
  if (!value.is_none()) read_value(value, name, into);
}

void read_value(nb::handle value, const char* name, std::map<std::string, TenantOptions>& into) {
  for (const auto& [key, tenant] : dict_of(value, name)) {
    std::string named;
    read_value(key, name, named);
    check_class(tenant, "TenantOptions");
    TenantOptions& options = into[named];
    read(tenant, "salt", options.salt);
    read(tenant, "quota_blocks", options.quota_blocks);
    read(tenant, "floor_blocks", options.floor_blocks);
  }
}

}  // namespace

ContentSpec read_content_spec(nb::handle from) {
  check_class(from, "ContentSpec");
  ContentSpec spec;
  read(from, "model", spec.model);
  read(from, "revision", spec.revision);
  read(from, "adapter", spec.adapter);
  read(from, "element", spec.element);
  read(from, "quantization", spec.quantization);
  read(from, "layers", spec.layers);
  read(from, "kv_heads", spec.kv_heads);
  read(from, "head_size", spec.head_size);
  read(from, "mla_rank", spec.mla_rank);
  read(from, "tokens_per_block", spec.tokens_per_block);
  read(from, "position_encoding", spec.position_encoding);
  read(from, "tenant_salt", spec.tenant_salt);
  read(from, "root", spec.root);
  return spec;
}

Placement read_placement(nb::handle from) {
  check_class(from, "Placement");
  Placement placement;
  read(from, "form", placement.form);
  read(from, "order", placement.order);
  read(from, "first_layer", placement.first_layer);
  read(from, "layers", placement.layers);
  read(from, "first_head", placement.first_head);
  read(from, "heads", placement.heads);
  read(from, "replicated", placement.replicated);
  return placement;
}

AgentOptions read_agent_options(nb::handle from) {
  check_class(from, "AgentOptions");
  AgentOptions options;
  read(from, "name", options.name);
  read(from, "listen", options.listen);
  read(from, "token", options.token);
  read(from, "admin", options.admin);
  read(from, "transports", options.transports);
  read(from, "require", options.require);
  read(from, "transport_options", options.transport_options);
  read(from, "peers", options.peers);
  read(from, "engine_socket", options.engine_socket);
  read(from, "deliver_arrivals", options.deliver_arrivals);
  read(from, "content", options.content);
  read(from, "placement", options.placement);
  read(from, "shards", options.shards);
  read(from, "segment_blocks", options.segment_blocks);
  read(from, "max_blocks", options.max_blocks);
  read(from, "huge_pages", options.huge_pages);
  read(from, "verify", options.verify);
  read(from, "eviction", options.eviction);
  read(from, "eviction_ttl", options.eviction_ttl);
  read(from, "admission", options.admission);
  read(from, "tenants", options.tenants);
  read(from, "max_inbound", options.max_inbound);
  read(from, "max_outbound", options.max_outbound);
  read(from, "max_connections", options.max_connections);
  read(from, "heartbeat", options.heartbeat);
  read(from, "peer_timeout", options.peer_timeout);
  read(from, "fence_timeout", options.fence_timeout);
  read(from, "retransmit", options.retransmit);
  read(from, "retry_hint", options.retry_hint);
  read(from, "default_deadline", options.default_deadline);
  read(from, "incarnation", options.incarnation);
  return options;
}

}  // namespace mempool::python
