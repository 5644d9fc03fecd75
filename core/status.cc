// SPDX-License-Identifier: Apache-2.0
// Owns the words of Status: the names of its codes and its text form.
#include "mempool/status.h"

namespace mempool {

std::string_view status_code_name(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return "OK";
    case StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case StatusCode::kNotFound:
      return "NOT_FOUND";
    case StatusCode::kAlreadyExists:
      return "ALREADY_EXISTS";
    case StatusCode::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case StatusCode::kUnavailable:
      return "UNAVAILABLE";
    case StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case StatusCode::kUnsupported:
      return "UNSUPPORTED";
    case StatusCode::kCancelled:
      return "CANCELLED";
    case StatusCode::kCorruption:
      return "CORRUPTION";
    case StatusCode::kStale:
      return "STALE";
    case StatusCode::kPermissionDenied:
      return "PERMISSION_DENIED";
    case StatusCode::kInternal:
      return "INTERNAL";
  }
  return "UNKNOWN";  // a number from the wire that this version does not know
}

Status::Status(StatusCode code, std::string message, uint32_t retry_after_ms) {
  if (code == StatusCode::kOk) return;
  state_ = std::make_shared<const State>(State{code, retry_after_ms, std::move(message)});
}

std::string Status::to_string() const {
  std::string text(status_code_name(code()));
  if (!ok()) text.append(": ").append(message());
  return text;
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return *this;
  std::string text(context);
  text.append(": ").append(message());
  return Status(code(), std::move(text), retry_after_ms());
}

Status invalid_argument(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

Status not_found(std::string message) {
  return Status(StatusCode::kNotFound, std::move(message));
}

Status resource_exhausted(std::string message, uint32_t retry_after_ms) {
  return Status(StatusCode::kResourceExhausted, std::move(message), retry_after_ms);
}

Status unavailable(std::string message) {
  return Status(StatusCode::kUnavailable, std::move(message));
}

Status deadline_exceeded(std::string message) {
  return Status(StatusCode::kDeadlineExceeded, std::move(message));
}

Status unsupported(std::string message) {
  return Status(StatusCode::kUnsupported, std::move(message));
}

Status cancelled(std::string message) {
  return Status(StatusCode::kCancelled, std::move(message));
}

Status corruption(std::string message) {
  return Status(StatusCode::kCorruption, std::move(message));
}

Status stale(std::string message) {
  return Status(StatusCode::kStale, std::move(message));
}

Status permission_denied(std::string message) {
  return Status(StatusCode::kPermissionDenied, std::move(message));
}

Status internal_error(std::string message) {
  return Status(StatusCode::kInternal, std::move(message));
}

}  // namespace mempool
