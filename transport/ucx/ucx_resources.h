// SPDX-License-Identifier: Apache-2.0
// Owns the reading of what UCX prints of its transports and devices.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mempool {

/// A transport of UCX on a device.
struct UcxResource {
  std::string transport;   // "rc_verbs"
  std::string device;      // "mlx5_0:1"
  bool auxiliary = false;  // for setting up connections only
};

/// Read "TRANSPORT/DEVICE" lines of what UCX prints of a context.
std::vector<UcxResource> parse_ucx_resources(std::string_view printed);
/// Tell whether a NIC moves the bytes by itself whichever of them UCX takes to a peer. Over ud its
/// messages carry them, and a CPU puts them in place.
bool all_rdma(const std::vector<UcxResource>& resources);
/// Read the transports, as "rc_verbs/mlx5_0:1, tcp/lo", of what UCX prints of an endpoint.
std::string parse_ucx_route(std::string_view printed);

}  // namespace mempool
