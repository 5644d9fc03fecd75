// SPDX-License-Identifier: Apache-2.0
// Owns the list of backends that are always built in; alone names them.
#include "transport/local/local_transport.h"
#include "transport/shm/shm_transport.h"
#include "transport/tcp/tcp_transport.h"
#include "transport/transport_registry.h"

namespace mempool {

void register_builtin_transports(TransportRegistry& registry) {
  // A fresh registry has none of the names; a second call keeps the first factories.
  (void)registry.add("local", &LocalTransport::open);
  (void)registry.add("shm", &ShmTransport::open);
  (void)registry.add("tcp", &TcpTransport::open);
}

}  // namespace mempool
