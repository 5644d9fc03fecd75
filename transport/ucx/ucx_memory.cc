// SPDX-License-Identifier: Apache-2.0
// Owns the registering with UCX, and the packing of keys.
#include "transport/ucx/ucx_memory.h"

#include <fmt/format.h>

#include "core/check.h"
#include "transport/ucx/ucx_wire.h"
#include "transport/ucx/ucx_words.h"

namespace mempool {

UcxMemory::~UcxMemory() {
  const UcxWords words;
  for (const auto& [region, handle] : handles_) ucp_mem_unmap(context_, handle);
}

Result<ucp_mem_h> UcxMemory::map(const Region& region) const {
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  params.address = region.base;
  params.length = region.bytes;
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  ucp_mem_h handle = nullptr;
  const UcxWords words;
  const ucs_status_t status = ucp_mem_map(context_, &params, &handle);
  if (status == UCS_OK) return handle;
  return words.failure(
      status, fmt::format("register region {} of {} bytes (is `ulimit -l` as large?)", region.id,
                          region.bytes));
}

Status UcxMemory::add(const Region& region, uint8_t memory_kinds) {
  MEMPOOL_RETURN_IF_ERROR(regions_.add(region, memory_kinds));
  const Result<ucp_mem_h> mapped = map(region);
  if (!mapped.ok()) {
    (void)regions_.remove(region.id);  // it was added above
    return mapped.status();
  }
  handles_[region.id] = *mapped;
  return {};
}

Status UcxMemory::remove(uint32_t region) {
  MEMPOOL_RETURN_IF_ERROR(regions_.remove(region));
  const auto found = handles_.find(region);
  const UcxWords words;
  const ucs_status_t status = ucp_mem_unmap(context_, found->second);
  handles_.erase(found);
  if (status == UCS_OK) return {};
  return internal_error(std::string(words.failure(status, "deregister").message()));
}

Result<std::vector<std::byte>> UcxMemory::key_of(uint32_t region) const {
  const Region* found = regions_.find(region);
  if (found == nullptr) return not_found(fmt::format("region {} is not registered", region));
  void* packed = nullptr;
  size_t bytes = 0;
  const UcxWords words;
  const ucs_status_t status = ucp_rkey_pack(context_, handle_of(region), &packed, &bytes);
  if (status != UCS_OK) return words.failure(status, fmt::format("pack the key of {}", region));
  const auto* const first = static_cast<const std::byte*>(packed);
  UcxKey key{incarnation_, region, found->bytes, reinterpret_cast<uint64_t>(found->base), {}};
  key.key.assign(first, first + bytes);
  ucp_rkey_buffer_release(packed);
  return encode_ucx_key(key);
}

}  // namespace mempool
