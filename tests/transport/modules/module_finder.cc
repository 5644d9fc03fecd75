// SPDX-License-Identifier: Apache-2.0
// Owns a library that loads a module from its own surroundings, as libmempool and a Python
// extension do, wherever a test has put it.
#include "transport/transport_module.h"

/// Give the version of the module that it finds, or null; `why` is what it says then.
extern "C" [[gnu::visibility("default")]] const char* find_module(const char* name,
                                                                  std::string& why) {
  const mempool::Result<const mempool::TransportModule*> module =
      mempool::load_transport_module(name);
  if (module.ok()) return (*module)->version;
  why = module.status().message();
  return nullptr;
}
