// SPDX-License-Identifier: Apache-2.0
// Owns the enums and the names of contents.
#include <fmt/format.h>
#include <nanobind/nanobind.h>
#include <nanobind/operators.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <type_traits>

#include "mempool/content.h"
#include "mempool/pool.h"
#include "python/bindings.h"
#include "python/raised_status.h"
#include "python/read_options.h"

namespace mempool::python {
namespace {

namespace nb = nanobind;

void bind_status_code(nb::module_& module) {
  nb::enum_<StatusCode> codes(module, "StatusCode");
  for (int code = 0; code <= static_cast<int>(StatusCode::kInternal); ++code) {
    const auto value = static_cast<StatusCode>(code);
    codes.value(status_code_name(value).data(), value);
  }
}

void bind_enums(nb::module_& module) {
  nb::enum_<Medium>(module, "Medium").value("DEVICE", Medium::kDevice).value("HOST", Medium::kHost);
  nb::enum_<ElementType>(module, "ElementType")
      .value("FLOAT32", ElementType::kFloat32)
      .value("FLOAT16", ElementType::kFloat16)
      .value("BFLOAT16", ElementType::kBfloat16)
      .value("FLOAT8_E4M3", ElementType::kFloat8E4m3)
      .value("FLOAT8_E5M2", ElementType::kFloat8E5m2)
      .value("INT8", ElementType::kInt8);
  nb::enum_<BlockForm>(module, "BlockForm")
      .value("DISCRETE", BlockForm::kDiscrete, "Each layer's K and V apart, as vLLM has it.")
      .value("AGGREGATED", BlockForm::kAggregated, "All of a block in one run.");
  nb::enum_<TokenOrder>(module, "TokenOrder")
      .value("TOKEN_HEAD", TokenOrder::kTokenHead)
      .value("HEAD_TOKEN", TokenOrder::kHeadToken);
  nb::enum_<TransferMode>(module, "TransferMode")
      .value("BY_REQUEST", TransferMode::kByRequest,
             "The KV of all layers is there, or will be when `ready` is reached.")
      .value("BY_LAYER", TransferMode::kByLayer,
             "It is still being made: send_layers() hands over layers, commit() ends.");
}

size_t hash_of(const Content& content) {
  return static_cast<size_t>(content.id.words[0]);
}

static_assert(std::is_trivially_copyable_v<Content>);

void set_state(Content& self, const nb::bytes& state) {
  if (state.size() != sizeof self) raise(invalid_argument("the state is none of a Content"));
  std::memcpy(static_cast<void*>(new (&self) Content), state.data(), sizeof self);
}

}  // namespace

void bind_content(nb::module_& module) {
  bind_status_code(module);
  bind_enums(module);
  nb::class_<Content>(module, "Content",
                      "The name of a content, as calls take it. Equal ones share KV.")
      .def_prop_ro(
          "id", [](const Content& content) { return to_string(content.id); },
          "128 bits in hex, of the whole spec.")
      .def_prop_ro(
          "model", [](const Content& content) { return to_string(content.model); },
          "Likewise, of the spec without adapter, salt and root: what agents must share before "
          "any block can move between them.")
      .def(nb::self == nb::self)
      .def("__hash__", &hash_of)
      .def("__getstate__",
           [](const Content& content) { return nb::bytes(&content, sizeof content); })
      .def("__setstate__", &set_state)
      .def("__repr__", [](const Content& content) {
        return fmt::format("<mempool.Content {}>", to_string(content.id));
      });
  module.def(
      "make_content", [](nb::handle spec) { return take(make_content(read_content_spec(spec))); },
      nb::arg("spec"),
      "Check a ContentSpec and name it. Raises InvalidArgument for a dimension that is zero or too "
      "large.");
}

}  // namespace mempool::python
