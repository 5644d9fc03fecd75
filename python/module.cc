// SPDX-License-Identifier: Apache-2.0
// Owns the extension module, mempool._mempool.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "core/log.h"
#include "mempool/version.h"
#include "python/adopted_tensor.h"
#include "python/array_view.h"
#include "python/bindings.h"
#include "python/callback.h"
#include "python/raised_status.h"

NB_MODULE(_mempool, module) {
  namespace nb = nanobind;
  using namespace mempool;
  using namespace mempool::python;

  nb::set_leak_warnings(false);  // what lives to the end of a program is no leak
  configure_log(LogLevel::kError, LogFormat::kText);
  bind_content(module);
  bind_blocks(module);
  bind_array_view(module);
  bind_adopted_tensor(module);
  bind_transfer(module);
  bind_pool(module);
  bind_agent(module);

  module.def("version", [] { return std::string(version()); });
  module.def(
      "set_log_level",
      [](const std::string& level) {
        configure_log(take(parse_log_level(level)), LogFormat::kText);
      },
      nb::arg("level"),
      "Write records of \"debug\", \"info\", \"warning\" or \"error\" and above to standard error; "
      "errors alone until then.");
  module.attr("_open_pools") = nb::module_::import_("weakref").attr("WeakSet")();
  module.def("_end_callbacks", &end_callbacks, nb::call_guard<nb::gil_scoped_release>());
}
