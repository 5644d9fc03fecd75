// SPDX-License-Identifier: Apache-2.0
// Owns a module of another version, of whose table only the first two members mean what they do
// here.
#include "transport/transport_module.h"

extern "C" [[gnu::visibility("default")]] const void* mempool_transport_module() {
  struct Table {
    uint64_t magic;
    const char* version;
    uint64_t other;
  };
  static const Table table = {mempool::kTransportModuleMagic, "0.0.9, interface 0", 1};
  return &table;
}
