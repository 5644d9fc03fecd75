// SPDX-License-Identifier: Apache-2.0
// Owns the way a call says how it ended: Status, and Result<T> for calls that give something back.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "mempool/export.h"

namespace mempool {

enum class StatusCode : uint8_t {
  kOk,
  kInvalidArgument,    // the caller's words are wrong; trying again will not help
  kNotFound,           // no such prompt, peer, transfer or block
  kAlreadyExists,      // the thing is there already
  kResourceExhausted,  // no room now; Status::retry_after_ms() says when to ask again
  kUnavailable,        // the peer cannot be reached, or was fenced; a retry may work
  kDeadlineExceeded,   // the call's time is over
  kUnsupported,        // this build, transport or layout cannot do it
  kCancelled,          // the caller or the peer took it back
  kCorruption,         // the bytes are not those that were sealed
  kStale,              // the address names a block that has been freed, or another incarnation
  kPermissionDenied,   // the peer could not prove the shared token
  kInternal,           // a defect in mempool
};

/// Give the code's name, as logs and JSON show it ("STALE").
MEMPOOL_EXPORT std::string_view status_code_name(StatusCode code);

/// How a call ended: a code and, unless ok, a message that names the thing and the mend.
/// An ok Status allocates nothing. Thread: safe to copy and read; one writer.
class [[nodiscard]] MEMPOOL_EXPORT Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message, uint32_t retry_after_ms = 0);

  bool ok() const { return state_ == nullptr; }
  StatusCode code() const { return ok() ? StatusCode::kOk : state_->code; }
  std::string_view message() const { return ok() ? std::string_view() : state_->message; }
  /// Milliseconds to wait before asking again; 0 when there is no hint.
  uint32_t retry_after_ms() const { return ok() ? 0 : state_->retry_after_ms; }
  /// Give "CODE: message", or "OK".
  std::string to_string() const;
  /// Give the same status with `context` and a colon in front of its message.
  Status with_context(std::string_view context) const;

 private:
  struct State {
    StatusCode code;
    uint32_t retry_after_ms;
    std::string message;
  };
  std::shared_ptr<const State> state_;  // shared: a Status is copied to every waiter of a call
};

MEMPOOL_EXPORT Status invalid_argument(std::string message);
MEMPOOL_EXPORT Status not_found(std::string message);
MEMPOOL_EXPORT Status resource_exhausted(std::string message, uint32_t retry_after_ms = 0);
MEMPOOL_EXPORT Status unavailable(std::string message);
MEMPOOL_EXPORT Status deadline_exceeded(std::string message);
MEMPOOL_EXPORT Status unsupported(std::string message);
MEMPOOL_EXPORT Status cancelled(std::string message);
MEMPOOL_EXPORT Status corruption(std::string message);
MEMPOOL_EXPORT Status stale(std::string message);
MEMPOOL_EXPORT Status permission_denied(std::string message);
MEMPOOL_EXPORT Status internal_error(std::string message);

/// A value, or the Status that says why there is none. `value()` of a failed Result aborts.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}        // NOLINT: implicit
  Result(Status status) : state_(std::in_place_index<0>, std::move(status)) {  // NOLINT: implicit
    if (std::get<0>(state_).ok()) std::abort();  // an ok Status carries no value
  }

  bool ok() const { return state_.index() == 1; }
  Status status() const { return ok() ? Status() : std::get<0>(state_); }
  T& value() & { return check(), std::get<1>(state_); }
  const T& value() const& { return check(), std::get<1>(state_); }
  T&& value() && { return check(), std::get<1>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  void check() const {
    if (!ok()) std::abort();
  }
  std::variant<Status, T> state_;
};

}  // namespace mempool
