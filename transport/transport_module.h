// SPDX-License-Identifier: Apache-2.0
// Owns the door between the agent and a backend that is a module: a shared object beside it, linked
// to a vendor's library, so that an agent starts on machines that lack the library.
//
// A module is made from the same sources as its host and has its own copy of what it needs of them;
// only the types of this contract pass between the two. Hence the two must be of one build version,
// which is looked at before anything else of the module is.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/log.h"
#include "mempool/status.h"
#include "transport/transport_registry.h"

namespace mempool {

/// What a module says of one device or of what it stands on, for `mempool doctor`.
struct DeviceFinding {
  std::string subject;  // "mlx5_0 port 1"
  bool usable = false;
  std::string found;
  std::string mend;  // of what is not usable
};

/// What a module is asked about its devices.
struct DeviceQuery {
  std::map<std::string, std::string> options;  // the backend's own keys
  uint64_t pool_bytes = 0;                     // to be registered
};

/// A module's table. The first two members stay where they are for ever: by them a host and a
/// module of different versions tell each other apart.
struct TransportModule {
  uint64_t magic = 0;  // kTransportModuleMagic
  const char* version = nullptr;
  const char* name = nullptr;
  /// The module writes records of its own; make them as the host's are.
  void (*configure_log)(const LogSettings& settings) = nullptr;
  /// As TransportRegistry::Factory.
  Result<std::unique_ptr<Transport>> (*open)(const TransportContext& context) = nullptr;
  /// Look at the devices by trying them; opens nothing that stays.
  std::vector<DeviceFinding> (*examine)(const DeviceQuery& query) = nullptr;
};

inline constexpr uint64_t kTransportModuleMagic = 0x314c4f4f504d454d;  // "MEMPOOL1"
/// The version of mempool and of the compiler's library; a module of another one is refused.
const char* transport_module_version();
/// The one symbol that a module exports, of type `const TransportModule*()`.
inline constexpr char kTransportModuleSymbol[] = "mempool_transport_module";
/// A folder that is looked into instead of all others.
inline constexpr char kModulePathVariable[] = "MEMPOOL_MODULE_PATH";

/// Give the names of the backends that are modules, found or not.
std::vector<std::string> module_names();

/// Load mempool_transport_NAME.so, which stays loaded: from the folder in MEMPOOL_MODULE_PATH alone
/// where that is set, or else from beside the program or library that this code is in, from
/// mempool/ there, or from mempool/ in the library folder next to it or where mempool was to be
/// installed. Errors: kUnavailable where it is not found, or lacks a library that it needs, with
/// the loader's words; kUnsupported for a module of another version. Each ends with "; " and the
/// mend.
Result<const TransportModule*> load_transport_module(const std::string& name);

}  // namespace mempool
