// SPDX-License-Identifier: Apache-2.0
// Owns the list of backends that there are, built in or as modules; alone names them.
#include "core/check.h"
#include "transport/local/local_transport.h"
#include "transport/shm/shm_transport.h"
#include "transport/tcp/tcp_transport.h"
#include "transport/transport_module.h"
#include "transport/transport_registry.h"

namespace mempool {

std::vector<std::string> module_names() {
  return {"ucx", "verbs"};
}

void register_transports(TransportRegistry& registry) {
  // A fresh registry has none of the names; a second call keeps the first factories.
  (void)registry.add("local", &LocalTransport::open);
  (void)registry.add("shm", &ShmTransport::open);
  (void)registry.add("tcp", &TcpTransport::open);
  for (const std::string& name : module_names()) {
    (void)registry.add(
        name, [name](const TransportContext& context) -> Result<std::unique_ptr<Transport>> {
          MEMPOOL_ASSIGN_OR_RETURN(const TransportModule* module, load_transport_module(name));
          return module->open(context);
        });
  }
}

}  // namespace mempool
