// SPDX-License-Identifier: Apache-2.0
// Owns what the C functions share: the pool's handle, how a Status or an exception becomes a code,
// and the checks and copies of what crosses the border.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "mempool/agent.h"
#include "mempool/mempool.h"

struct mempool_pool {
  std::unique_ptr<mempool::Pool> pool;
  mempool::Agent* agent = nullptr;  // the same, where it is embedded
  std::string listen;               // of an embedded one
};

namespace mempool::c_api {

/// Keep a failure for mempool_last_error(), and give the code.
mempool_status settle(const Status& status) noexcept;
/// The same for the exception that is being handled.
mempool_status settle_exception() noexcept;

/// Run the body of a C function, which gives a Status. Whatever it throws ends here.
template <typename Body>
mempool_status run(Body&& body) noexcept {
  try {
    return settle(body());
  } catch (...) {
    return settle_exception();
  }
}

/// Errors of each: kInvalidArgument, naming what is missing or out of bounds.
Status need(const void* pointer, std::string_view name);
Status need_list(const void* first, size_t count, std::string_view name);
Status check_size(size_t size, std::string_view name);
/// Check that a struct of a newer version sets nothing that this one does not know.
/// Errors: kUnsupported.
Status check_rest(const void* given, size_t size, size_t known, std::string_view name);

/// Give a copy of a struct of the caller's, whose version may be older or newer: all zero where it
/// is null or ends early. Errors: those of both checks.
template <typename T>
Result<T> take(const T* given, std::string_view name) {
  T taken{};
  if (given == nullptr) return taken;
  MEMPOOL_RETURN_IF_ERROR(check_size(given->size, name));
  MEMPOOL_RETURN_IF_ERROR(check_rest(given, given->size, sizeof(T), name));
  std::memcpy(&taken, given, std::min(given->size, sizeof(T)));
  return taken;
}

/// Fill a struct of the caller's as far as it goes. Requires: check_size() or take() accepted it.
template <typename T>
void put(T value, T* out) {
  value.size = out->size;
  std::memcpy(out, &value, std::min(value.size, sizeof(T)));
}

inline std::string text(const char* given) {
  return given == nullptr ? "" : given;
}

/// A time of the caller's; more than a year is a year.
std::chrono::milliseconds bounded(uint64_t milliseconds);

Result<Medium> to_medium(uint32_t medium);
Result<Prompt> to_prompt(const mempool_prompt* prompt);
Result<std::vector<BlockAddress>> to_blocks(const mempool_block* blocks, size_t count);

/// Copy a list out. Requires: room for it.
void put_blocks(std::span<const BlockAddress> blocks, mempool_block* out);
/// The same, where the caller has said how much room there is. Sets `count` even where that is too
/// little. Errors: kInvalidArgument then.
Status put_blocks(std::span<const BlockAddress> blocks, mempool_block* out, size_t capacity,
                  size_t* count);

}  // namespace mempool::c_api
