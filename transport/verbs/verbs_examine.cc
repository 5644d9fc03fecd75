// SPDX-License-Identifier: Apache-2.0
// Owns the words for devices and for the limit on pinned memory.
#include "transport/verbs/verbs_examine.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/verbs/self_test.h"
#include "transport/verbs/verbs_device.h"

namespace mempool {
namespace {

DeviceFinding device_finding(const DeviceOutcome& outcome, const VerbsOptions& options) {
  if (!outcome.device.ok()) {
    return {outcome.name, false, std::string(outcome.device.status().message()),
            "mend it, or leave it out of verbs.devices"};
  }
  const VerbsDevice& device = **outcome.device;
  const Result<GrantedPieces> granted = granted_pieces(device, options);
  Status tested = granted.status();
  if (tested.ok()) tested = test_device(device, options, *granted);
  const GrantedPieces pieces = granted.ok() ? *granted : GrantedPieces{};
  return {outcome.name, tested.ok(),
          fmt::format("{}, GID {}, MTU {}, {} pieces a write, {} a read, messages of {} MiB, {} "
                      "regions, dma-buf {}, NUMA node {}, self-test {}",
                      to_string(device.address().kind), device.gid_index(), device.address().mtu,
                      pieces.send, pieces.read, device.message_bytes() >> 20,
                      device.limits().max_mr, device.registers_dmabuf() ? "yes" : "no",
                      device.numa_node(), tested.ok() ? "passed" : std::string(tested.message())),
          tested.ok() ? "" : "mend it, or leave it out of verbs.devices"};
}

/// Tell whether no limit on pinned memory holds this process.
bool may_pin_anything() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};
  return ::syscall(SYS_capget, &header, sets) == 0 &&
         (sets[0].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

/// Each device pins the pool, and the kernel counts every time.
DeviceFinding memory_finding(uint64_t devices, uint64_t pool_bytes) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const uint64_t wanted = devices * pool_bytes;
  const bool free = limit.rlim_cur == RLIM_INFINITY || may_pin_anything();
  return {"memory", free || wanted <= limit.rlim_cur,
          fmt::format("{} devices pin {} MiB; RLIMIT_MEMLOCK allows {}", devices, wanted >> 20,
                      free ? "all" : fmt::format("{} MiB", limit.rlim_cur >> 20)),
          free || wanted <= limit.rlim_cur
              ? ""
              : "set LimitMEMLOCK=infinity (systemd) or `ulimit -l unlimited`"};
}

}  // namespace

std::vector<DeviceFinding> examine_verbs(const DeviceQuery& query) {
  const Result<VerbsOptions> options = VerbsOptions::parse(query.options);
  if (!options.ok()) {
    return {{"options", false, std::string(options.status().message()), "mend the key"}};
  }
  std::vector<DeviceFinding> findings;
  uint64_t usable = 0;
  for (const DeviceOutcome& outcome : try_devices(*options)) {
    findings.push_back(device_finding(outcome, *options));
    if (findings.back().usable) ++usable;
  }
  if (findings.empty()) {
    return {{"devices", false, "no RDMA device",
             "load the NIC's driver, or make a soft-RoCE device (docs/rdma.md)"}};
  }
  if (usable > 0) findings.push_back(memory_finding(usable, query.pool_bytes));
  return findings;
}

}  // namespace mempool
