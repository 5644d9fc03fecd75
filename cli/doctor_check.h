// SPDX-License-Identifier: Apache-2.0
// Owns what `mempool doctor` finds: one check each, made by trying the thing itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mempool/agent.h"

namespace mempool {

enum class CheckState : uint8_t { kOk, kNo, kUnknown };

/// One row of the table.
struct DoctorCheck {
  std::string name;
  CheckState state = CheckState::kUnknown;
  std::string found;
  std::string mend;     // of what is not ok
  bool needed = false;  // without it an agent of these options does not start
};

/// Of each transport that is known or asked for, and of what it stands on.
std::vector<DoctorCheck> check_transports(const AgentOptions& options);

/// What is found of the transports that are modules.
struct ModuleChecks {
  std::vector<DoctorCheck> transports;  // a row each, and one for "rdma" where it is required
  std::vector<DoctorCheck> devices;     // none of which an agent needs by itself
  std::vector<std::string> by_rdma;     // of agent.transports those by which a NIC moves the bytes
};
ModuleChecks check_modules(const AgentOptions& options);

/// Of GPUs, where there are any: what a NIC needs to reach their memory. `proc` is /proc.
std::vector<DoctorCheck> check_gpus(const std::string& proc);

/// Of the memory: room for the pool, limits, huge pages, /dev/shm; and of descriptors.
std::vector<DoctorCheck> check_machine(const AgentOptions& options);

/// The bytes of the pool's blocks.
uint64_t pool_bytes(const AgentOptions& options);

/// A size as people read it: "1.5 GiB".
std::string size_text(uint64_t bytes);

}  // namespace mempool
