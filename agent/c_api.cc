// SPDX-License-Identifier: Apache-2.0
// Owns the border of the C API: codes, the last failure of a thread, checks, copies.
#include "agent/c_api.h"

#include <bit>
#include <cstddef>
#include <exception>
#include <new>
#include <type_traits>

#include <fmt/format.h>

#include "mempool/version.h"

namespace mempool::c_api {
namespace {

constexpr size_t kListMax = size_t{1} << 28;  // as many as a pool has blocks
constexpr size_t kStructBytesMax = 4096;      // far above any version of a struct
constexpr uint64_t kYearMs = uint64_t{366} * 24 * 3600 * 1000;

// C and C++ share these, bit for bit.
static_assert(MEMPOOL_INTERNAL == static_cast<int>(StatusCode::kInternal));
static_assert(sizeof(mempool_block) == sizeof(BlockAddress));
static_assert(sizeof(mempool_content) == sizeof(Content));
static_assert(offsetof(mempool_content, tenant) == offsetof(Content, tenant));
// Nothing unnamed lies between their members, so a copy of one is all of it.
static_assert(std::has_unique_object_representations_v<mempool_content_spec>);
static_assert(std::has_unique_object_representations_v<mempool_layout>);
static_assert(std::has_unique_object_representations_v<mempool_adopt_options>);
static_assert(std::has_unique_object_representations_v<mempool_inserted>);
static_assert(std::has_unique_object_representations_v<mempool_transfer_options>);
static_assert(std::has_unique_object_representations_v<mempool_report>);
static_assert(std::has_unique_object_representations_v<mempool_arrival_view>);

const Status kOutOfMemory = resource_exhausted("this process is out of memory");
thread_local Status last_failure;

}  // namespace

mempool_status settle(const Status& status) noexcept {
  if (!status.ok()) last_failure = status;
  return static_cast<mempool_status>(status.code());
}

mempool_status settle_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return settle(kOutOfMemory);
  } catch (const std::exception& error) {
    return run([&] { return internal_error(error.what()); });
  } catch (...) {
    return run([] { return internal_error("an exception that is no std::exception"); });
  }
}

Status need(const void* pointer, std::string_view name) {
  if (pointer != nullptr) return {};
  return invalid_argument(fmt::format("{} is null", name));
}

Status need_list(const void* first, size_t count, std::string_view name) {
  if (count > kListMax) {
    return invalid_argument(
        fmt::format("{}: a list of {}; give at most {}", name, count, kListMax));
  }
  return count == 0 ? Status() : need(first, name);
}

Status check_size(size_t size, std::string_view name) {
  if (size >= sizeof size && size <= kStructBytesMax) return {};
  return invalid_argument(
      fmt::format("{}: its size is {}; set it to sizeof of the struct", name, size));
}

Status check_rest(const void* given, size_t size, size_t known, std::string_view name) {
  const auto* const bytes = static_cast<const unsigned char*>(given);
  if (size <= known || std::all_of(bytes + known, bytes + size, [](auto b) { return b == 0; })) {
    return {};
  }
  return unsupported(fmt::format(
      "{}: something is set that version {} does not know; leave it zero", name, version()));
}

std::chrono::milliseconds bounded(uint64_t milliseconds) {
  return std::chrono::milliseconds(std::min(milliseconds, kYearMs));
}

Result<Medium> to_medium(uint32_t medium) {
  if (medium == MEMPOOL_HOST) return Medium::kHost;
  if (medium == MEMPOOL_DEVICE) return Medium::kDevice;
  return invalid_argument(fmt::format("there is no medium {}", medium));
}

Result<Prompt> to_prompt(const mempool_prompt* prompt) {
  MEMPOOL_RETURN_IF_ERROR(need(prompt, "prompt"));
  MEMPOOL_RETURN_IF_ERROR(need_list(prompt->tokens, prompt->token_count, "prompt.tokens"));
  return Prompt{std::bit_cast<Content>(prompt->content), {prompt->tokens, prompt->token_count}};
}

Result<std::vector<BlockAddress>> to_blocks(const mempool_block* blocks, size_t count) {
  MEMPOOL_RETURN_IF_ERROR(need_list(blocks, count, "blocks"));
  std::vector<BlockAddress> result(count);
  if (count > 0)
    std::memcpy(static_cast<void*>(result.data()), blocks, count * sizeof(BlockAddress));
  return result;
}

void put_blocks(std::span<const BlockAddress> blocks, mempool_block* out) {
  if (!blocks.empty()) std::memcpy(out, blocks.data(), blocks.size_bytes());
}

Status put_blocks(std::span<const BlockAddress> blocks, mempool_block* out, size_t capacity,
                  size_t* count) {
  *count = blocks.size();
  if (blocks.size() > capacity) {
    return invalid_argument(fmt::format("the list has room for {} blocks; give it room for {}",
                                        capacity, blocks.size()));
  }
  put_blocks(blocks, out);
  return {};
}

}  // namespace mempool::c_api

using namespace mempool;

const char* mempool_status_name(mempool_status status) {
  return status_code_name(static_cast<StatusCode>(status)).data();
}

const char* mempool_last_error(void) {
  // The view is of a string, and so ends with a null.
  return c_api::last_failure.ok() ? "" : c_api::last_failure.message().data();
}

uint32_t mempool_retry_after_ms(void) {
  return c_api::last_failure.retry_after_ms();
}

const char* mempool_version(void) {
  return version().data();
}
