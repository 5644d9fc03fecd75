// SPDX-License-Identifier: Apache-2.0
// Owns the opening of devices, the choice of port and GID, and the registration of memory.
#include "transport/verbs/verbs_device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>

#include "core/check.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

constexpr size_t kGidsMost = 256;
constexpr uint32_t kGlobalAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ;

uint32_t bytes_of(ibv_mtu mtu) {
  return 128u << mtu;  // IBV_MTU_256 is 1
}

bool is_ip4(const ibv_gid& gid) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.raw, kMapped, sizeof kMapped) == 0;
}

bool is_link_local(const ibv_gid& gid) {
  return gid.raw[0] == 0xfe && (gid.raw[1] & 0xc0) == 0x80;
}

std::optional<LinkKind> kind_of(const ibv_gid_entry& entry) {
  switch (entry.gid_type) {
    case IBV_GID_TYPE_IB:
      return LinkKind::kInfiniBand;
    case IBV_GID_TYPE_ROCE_V1:
      return LinkKind::kRoceV1;
    case IBV_GID_TYPE_ROCE_V2:
      return is_ip4(entry.gid) ? LinkKind::kRoceV2Ip4 : LinkKind::kRoceV2Ip6;
  }
  return std::nullopt;
}

// The lower the better: routable before not, v2 before v1, IPv4 before IPv6.
int rank_of(const ibv_gid_entry& entry) {
  const std::optional<LinkKind> kind = kind_of(entry);
  if (!kind) return 9;
  if (*kind == LinkKind::kRoceV2Ip4) return 0;
  if (*kind == LinkKind::kRoceV2Ip6) return is_link_local(entry.gid) ? 2 : 1;
  return *kind == LinkKind::kRoceV1 ? 3 : 4;
}

int numa_node_of(const ibv_device& device) {
  std::ifstream file(fmt::format("{}/device/numa_node", device.ibdev_path));
  int node = -1;
  file >> node;
  return file ? node : -1;
}

int own_numa_node() {
  unsigned cpu = 0;
  unsigned node = 0;
  return getcpu(&cpu, &node) == 0 ? static_cast<int>(node) : -1;
}

const char* state_words(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down: set its link up, or plug its cable";
    case IBV_PORT_INIT:
      return "not configured yet: InfiniBand needs a subnet manager (opensm)";
    default:
      return "not active";
  }
}

Status memory_error(const std::string& name, uint64_t bytes, int error) {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if ((error == ENOMEM || error == EAGAIN) && limit.rlim_cur != RLIM_INFINITY) {
    return resource_exhausted(fmt::format(
        "{}: {} bytes cannot be registered; RLIMIT_MEMLOCK allows {} for all regions on "
        "all devices together; set LimitMEMLOCK=infinity (systemd) or `ulimit -l "
        "unlimited`",
        name, bytes, limit.rlim_cur));
  }
  return verbs_error(StatusCode::kUnavailable, fmt::format("{}: register {} bytes", name, bytes),
                     error);
}

/// "NAME" or "NAME:PORT"; port 0 where it names none.
Result<uint8_t> port_in(const std::string& text, std::string& name) {
  const size_t colon = text.find(':');
  name = text.substr(0, colon);
  if (colon == std::string::npos) return uint8_t{0};
  uint8_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (error == std::errc() && at == end && port > 0) return port;
  return invalid_argument(fmt::format("device \"{}\": give NAME or NAME:PORT, ports from 1", text));
}

/// The list of libibverbs, for as long as this is there.
class DeviceList {
 public:
  DeviceList() : devices_(ibv_get_device_list(&count_)) {}
  ~DeviceList() {
    if (devices_ != nullptr) ibv_free_device_list(devices_);
  }
  DeviceList(const DeviceList&) = delete;
  DeviceList& operator=(const DeviceList&) = delete;

  std::vector<ibv_device*> all() const {
    return devices_ == nullptr ? std::vector<ibv_device*>()
                               : std::vector<ibv_device*>(devices_, devices_ + count_);
  }
  std::string names() const {
    std::vector<std::string> names;
    for (const ibv_device* device : all()) names.emplace_back(device->name);
    return names.empty() ? "none; load the NIC's driver, or make a soft-RoCE device"
                         : fmt::format("{}", fmt::join(names, ", "));
  }

 private:
  int count_ = 0;
  ibv_device** const devices_;
};

}  // namespace

const char* to_string(LinkKind kind) {
  switch (kind) {
    case LinkKind::kInfiniBand:
      return "InfiniBand";
    case LinkKind::kRoceV1:
      return "RoCE v1";
    case LinkKind::kRoceV2Ip4:
      return "RoCE v2 over IPv4";
    case LinkKind::kRoceV2Ip6:
      return "RoCE v2 over IPv6";
  }
  return "unknown";
}

Result<std::unique_ptr<VerbsDevice>> VerbsDevice::open(ibv_device& device, uint8_t port,
                                                       const VerbsOptions& options) {
  std::unique_ptr<VerbsDevice> opened(new VerbsDevice());
  opened->name_ = device.name;
  opened->context_.reset(ibv_open_device(&device));
  if (!opened->context_) {
    return verbs_error(StatusCode::kUnavailable,
                       fmt::format("open {} (is /dev/infiniband allowed here?)", device.name),
                       errno);
  }
  if (const int error = ibv_query_device(opened->context(), &opened->limits_); error != 0) {
    return verbs_error(StatusCode::kUnavailable, fmt::format("{}: query", device.name), error);
  }
  opened->domain_.reset(ibv_alloc_pd(opened->context()));
  if (!opened->domain_) {
    return verbs_error(StatusCode::kUnavailable, fmt::format("{}: protection domain", device.name),
                       errno);
  }
  opened->numa_node_ = numa_node_of(device);
  MEMPOOL_RETURN_IF_ERROR(opened->open_port(port, options));
  opened->registers_dmabuf_ = opened->probe_dmabuf();
  return opened;
}

Status VerbsDevice::open_port(uint8_t port, const VerbsOptions& options) {
  if (port > limits_.phys_port_cnt) {
    return invalid_argument(fmt::format("{} has {} ports, and port {} is asked for", name_,
                                        limits_.phys_port_cnt, port));
  }
  ibv_port_attr found{};
  const uint8_t last = port == 0 ? limits_.phys_port_cnt : port;
  for (port_ = port == 0 ? 1 : port; port_ <= last; ++port_) {
    if (const int error = ibv_query_port(context(), port_, &found); error != 0) {
      return verbs_error(StatusCode::kUnavailable, fmt::format("{}: port {}", name_, port_), error);
    }
    if (found.state == IBV_PORT_ACTIVE) break;
  }
  if (found.state != IBV_PORT_ACTIVE) {
    return unavailable(fmt::format("{}: port {} is {}", name_, last, state_words(found.state)));
  }
  name_ += fmt::format(":{}", port_);
  message_bytes_ = found.max_msg_sz;
  address_.lid = found.lid;
  address_.mtu = options.mtu == 0 ? bytes_of(found.active_mtu) : options.mtu;
  if (address_.mtu > bytes_of(found.active_mtu)) {
    return invalid_argument(
        fmt::format("verbs.mtu = {}, and the port {} has {}; lower it, or raise "
                    "the network's",
                    options.mtu, name_, bytes_of(found.active_mtu)));
  }
  const auto depth = [](int limit) { return static_cast<uint8_t>(std::clamp(limit, 1, 128)); };
  address_.reads_out = depth(limits_.max_qp_init_rd_atom);
  address_.reads_in = depth(limits_.max_qp_rd_atom);
  return choose_gid(options.gid_index);
}

Status VerbsDevice::choose_gid(int32_t wanted) {
  std::vector<ibv_gid_entry> entries(kGidsMost);
  const ssize_t count = ibv_query_gid_table(context(), entries.data(), entries.size(), 0);
  if (count < 0) {
    return verbs_error(StatusCode::kUnavailable, fmt::format("{}: GID table", name_),
                       static_cast<int>(-count));
  }
  entries.resize(static_cast<size_t>(count));
  std::erase_if(entries, [&](const ibv_gid_entry& entry) {
    return entry.port_num != port_ || !kind_of(entry) ||
           (wanted >= 0 && entry.gid_index != static_cast<uint32_t>(wanted));
  });
  if (entries.empty() && wanted >= 0) {
    return invalid_argument(fmt::format(
        "verbs.gid_index = {}: {} has no such GID; see `ibv_devinfo -v`", wanted, name_));
  }
  if (entries.empty()) {
    return unavailable(fmt::format("{} has no GID; give its network interface an address", name_));
  }
  const ibv_gid_entry& best = *std::ranges::min_element(entries, {}, rank_of);
  address_.kind = *kind_of(best);
  address_.gid = best.gid;
  gid_index_ = static_cast<uint8_t>(best.gid_index);
  return {};
}

bool VerbsDevice::probe_dmabuf() const {
  // A device that can look at the descriptor says that it is a bad one; others refuse before.
  errno = 0;
  const MemoryHandle none(ibv_reg_dmabuf_mr(domain(), 0, 4096, 0, -1, kGlobalAccess));
  return !none && errno == EBADF;
}

Result<MemoryHandle> VerbsDevice::register_memory(std::byte* base, uint64_t bytes,
                                                  int dmabuf) const {
  errno = 0;
  MemoryHandle memory(dmabuf < 0
                          ? ibv_reg_mr(domain(), base, bytes, static_cast<int>(kGlobalAccess))
                          : ibv_reg_dmabuf_mr(domain(), 0, bytes, reinterpret_cast<uint64_t>(base),
                                              dmabuf, static_cast<int>(kGlobalAccess)));
  if (!memory) return memory_error(name_, bytes, errno);
  return memory;
}

std::vector<DeviceOutcome> try_devices(const VerbsOptions& options) {
  const DeviceList list;
  std::vector<DeviceOutcome> outcomes;
  if (options.devices.front() == "auto") {
    for (ibv_device* device : list.all()) {
      outcomes.push_back({device->name, VerbsDevice::open(*device, 0, options)});
    }
    const int own = own_numa_node();
    std::ranges::stable_sort(outcomes, {}, [own](const DeviceOutcome& outcome) {
      if (!outcome.device.ok()) return 3;
      const int node = (*outcome.device)->numa_node();
      return node == own ? 0 : node < 0 ? 1 : 2;
    });
    return outcomes;
  }
  for (const std::string& wanted : options.devices) {
    std::string name;
    const Result<uint8_t> port = port_in(wanted, name);
    const std::vector<ibv_device*> all = list.all();
    const auto found =
        std::ranges::find_if(all, [&](const ibv_device* device) { return device->name == name; });
    if (!port.ok()) {
      outcomes.push_back({wanted, port.status()});
    } else if (found == all.end()) {
      outcomes.push_back(
          {wanted, not_found(fmt::format("no RDMA device {}; there are {}", name, list.names()))});
    } else {
      outcomes.push_back({wanted, VerbsDevice::open(**found, *port, options)});
    }
  }
  return outcomes;
}

Result<std::vector<std::unique_ptr<VerbsDevice>>> open_devices(const VerbsOptions& options) {
  const bool automatic = options.devices.front() == "auto";
  std::vector<std::unique_ptr<VerbsDevice>> opened;
  std::vector<std::string> reasons;
  for (DeviceOutcome& outcome : try_devices(options)) {
    if (outcome.device.ok()) {
      opened.push_back(std::move(outcome.device).value());
    } else if (automatic) {
      reasons.emplace_back(outcome.device.status().message());
    } else {
      return outcome.device.status();
    }
  }
  if (!opened.empty()) return opened;
  if (reasons.empty()) {
    return unavailable(
        "no RDMA device here; load the NIC's driver, or make a soft-RoCE device (docs/rdma.md)");
  }
  return unavailable(fmt::format("no RDMA device is usable: {}", fmt::join(reasons, "; ")));
}

}  // namespace mempool
