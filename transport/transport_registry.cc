// SPDX-License-Identifier: Apache-2.0
// Owns the map from a backend's name to what opens it.
#include "transport/transport_registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace mempool {

Status TransportRegistry::add(const std::string& name, Factory factory) {
  if (!factories_.emplace(name, std::move(factory)).second) {
    return {
        StatusCode::kAlreadyExists,
        fmt::format("transport {} is registered already; give the other one its own name", name)};
  }
  return {};
}

Result<std::unique_ptr<Transport>> TransportRegistry::open(const std::string& name,
                                                           const TransportContext& context) const {
  const auto found = factories_.find(name);
  if (found == factories_.end()) {
    return not_found(fmt::format("no transport {}; there are {}", name, fmt::join(names(), ", ")));
  }
  return found->second(context);
}

std::vector<std::string> TransportRegistry::names() const {
  std::vector<std::string> names;
  for (const auto& [name, factory] : factories_) names.push_back(name);
  return names;
}

}  // namespace mempool
