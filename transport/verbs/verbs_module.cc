// SPDX-License-Identifier: Apache-2.0
// Owns the module's table and the one symbol by which it is found.
#include "transport/verbs/verbs_examine.h"
#include "transport/verbs/verbs_transport.h"

extern "C" __attribute__((visibility("default"))) const mempool::TransportModule*
mempool_transport_module() {
  static const mempool::TransportModule module = {
      mempool::kTransportModuleMagic,
      mempool::transport_module_version(),
      "verbs",
      [](const mempool::LogSettings& settings) {
        mempool::configure_log(settings.level, settings.format);
      },
      &mempool::VerbsTransport::open,
      &mempool::examine_verbs,
  };
  return &module;
}
