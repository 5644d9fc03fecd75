// SPDX-License-Identifier: Apache-2.0
// Owns the search for a module's file and the checks before its first call.
#include "transport/transport_module.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <link.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "mempool/version.h"

namespace mempool {
namespace {

namespace fs = std::filesystem;

// Raised with every change of what passes between a host and its modules.
constexpr uint32_t kInterface = 1;

/// The folder of the file that this code is in: a program, libmempool or a Python extension.
fs::path own_folder() {
  Dl_info info{};
  link_map* object = nullptr;
  const int found = dladdr1(reinterpret_cast<const void*>(&own_folder), &info,
                            reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP);
  // A program has no name of its own there; the kernel knows its place.
  const bool program = found == 0 || object == nullptr || *object->l_name == 0;
  std::error_code ignored;
  return fs::canonical(program ? "/proc/self/exe" : object->l_name, ignored).parent_path();
}

std::vector<fs::path> module_folders() {
  // Not of the environment where it is another user's: a program with capabilities of its own.
  if (const char* chosen = secure_getenv(kModulePathVariable); chosen != nullptr && *chosen != 0) {
    return {chosen};
  }
  const fs::path own = own_folder();
  return {own, own / "mempool", own.parent_path() / MEMPOOL_LIBRARY_FOLDER / "mempool",
          fs::path(MEMPOOL_INSTALLED_LIBRARY_FOLDER) / "mempool"};
}

std::string last_error() {
  const char* error = dlerror();
  return error == nullptr ? "no reason given" : error;
}

Result<const TransportModule*> checked(const std::string& name, const std::string& file,
                                       void* object) {
  using Entry = const TransportModule* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(object, kTransportModuleSymbol));
  const TransportModule* module = entry == nullptr ? nullptr : entry();
  if (module == nullptr || module->magic != kTransportModuleMagic) {
    return unsupported(
        fmt::format("{} is no transport module of mempool; install mempool anew", file));
  }
  if (std::string_view(module->version) != transport_module_version()) {
    return unsupported(fmt::format("{} is of version {}, this is {}; install both from one build",
                                   file, module->version, transport_module_version()));
  }
  if (module->name != name) {
    return unsupported(
        fmt::format("{} holds '{}', not '{}'; install mempool anew", file, module->name, name));
  }
  module->configure_log(log_settings());
  return module;
}

}  // namespace

const char* transport_module_version() {
  static const std::string text =
      fmt::format("{}, interface {}, C++ library {}", version(), kInterface, _GLIBCXX_RELEASE);
  return text.c_str();
}

Result<const TransportModule*> load_transport_module(const std::string& name) {
  const std::string file_name = fmt::format("mempool_transport_{}.so", name);
  std::vector<std::string> looked;
  for (const fs::path& folder : module_folders()) {
    const fs::path file = folder / file_name;
    std::error_code ignored;
    if (!fs::exists(file, ignored)) {
      looked.push_back(folder.string());
      continue;
    }
    void* const object = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (object != nullptr) return checked(name, file.string(), object);
    return unavailable(
        fmt::format("{} cannot be loaded: {}; install what it lacks, or mempool anew",
                    file.string(), last_error()));
  }
  return unavailable(fmt::format("no {} in {}; install it, or set {} to its folder", file_name,
                                 fmt::join(looked, ", "), kModulePathVariable));
}

}  // namespace mempool
