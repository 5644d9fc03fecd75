// SPDX-License-Identifier: Apache-2.0
// Owns an open RDMA device: what its port is called on the network and how much it can do.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "transport/verbs/verbs_handles.h"
#include "transport/verbs/verbs_options.h"

namespace mempool {

/// How packets of a port are addressed; both ends of a queue pair must be of one kind.
enum class LinkKind : uint8_t { kInfiniBand = 0, kRoceV1 = 1, kRoceV2Ip4 = 2, kRoceV2Ip6 = 3 };
const char* to_string(LinkKind kind);

/// What the other side needs of a port to send to it.
struct PortAddress {
  LinkKind kind = LinkKind::kRoceV2Ip4;
  ibv_gid gid{};
  uint16_t lid = 0;       // InfiniBand
  uint32_t mtu = 0;       // bytes that it can take in one packet
  uint8_t reads_out = 1;  // reads it may have under way, and
  uint8_t reads_in = 1;   // reads it serves at once, on one queue pair
};

/// Thread: confined after open(); register_memory() is safe.
class VerbsDevice {
 public:
  /// Open a device and one of its ports. Errors: kUnavailable for a port that is down or a device
  /// that does not open; kInvalidArgument for a port or GID index that there is not.
  static Result<std::unique_ptr<VerbsDevice>> open(ibv_device& device, uint8_t port,
                                                   const VerbsOptions& options);

  const std::string& name() const { return name_; }  // "mlx5_0:1"
  ibv_context* context() const { return context_.get(); }
  ibv_pd* domain() const { return domain_.get(); }
  const ibv_device_attr& limits() const { return limits_; }
  const PortAddress& address() const { return address_; }
  uint8_t port() const { return port_; }
  uint8_t gid_index() const { return gid_index_; }
  uint64_t message_bytes() const { return message_bytes_; }
  int numa_node() const { return numa_node_; }  // -1: not known
  bool registers_dmabuf() const { return registers_dmabuf_; }

  /// Register host memory, or a dma-buf's where `dmabuf` is its descriptor. Errors:
  /// kResourceExhausted for too little RLIMIT_MEMLOCK, naming it; kUnavailable with the device's
  /// reason.
  Result<MemoryHandle> register_memory(std::byte* base, uint64_t bytes, int dmabuf) const;

 private:
  VerbsDevice() = default;
  Status open_port(uint8_t port, const VerbsOptions& options);
  Status choose_gid(int32_t wanted);
  bool probe_dmabuf() const;

  std::string name_;
  ContextHandle context_;
  DomainHandle domain_;
  ibv_device_attr limits_{};
  PortAddress address_;
  uint8_t port_ = 1;
  uint8_t gid_index_ = 0;
  uint64_t message_bytes_ = 0;
  int numa_node_ = -1;
  bool registers_dmabuf_ = false;
};

/// Open the devices that `options` name, in their order; of "auto" all with a port that is up,
/// those of this thread's NUMA node first. Errors: those of VerbsDevice::open() for one that is
/// named; kUnavailable, with the reason of each, where there is none.
Result<std::vector<std::unique_ptr<VerbsDevice>>> open_devices(const VerbsOptions& options);

/// A device and port as config names them, opened or why not; for `mempool doctor`.
struct DeviceOutcome {
  std::string name;
  Result<std::unique_ptr<VerbsDevice>> device;
};
std::vector<DeviceOutcome> try_devices(const VerbsOptions& options);

}  // namespace mempool
