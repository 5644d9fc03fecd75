// SPDX-License-Identifier: Apache-2.0
// Owns the door of the ucx module.
#include "core/log.h"
#include "transport/transport_module.h"
#include "transport/ucx/ucx_examine.h"
#include "transport/ucx/ucx_transport.h"

extern "C" __attribute__((visibility("default"))) const mempool::TransportModule*
mempool_transport_module() {
  static const mempool::TransportModule module = {
      mempool::kTransportModuleMagic,
      mempool::transport_module_version(),
      "ucx",
      [](const mempool::LogSettings& settings) {
        mempool::configure_log(settings.level, settings.format);
      },
      &mempool::UcxTransport::open,
      &mempool::examine_ucx,
  };
  return &module;
}
