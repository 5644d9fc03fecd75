// SPDX-License-Identifier: Apache-2.0
// Owns the name of each code's class in mempool.errors.
#include "python/raised_status.h"

#include <string>

namespace mempool::python {
namespace {

namespace nb = nanobind;

const char* class_of(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
    case StatusCode::kInternal:
      return "Internal";
    case StatusCode::kInvalidArgument:
      return "InvalidArgument";
    case StatusCode::kNotFound:
      return "NotFound";
    case StatusCode::kAlreadyExists:
      return "AlreadyExists";
    case StatusCode::kResourceExhausted:
      return "ResourceExhausted";
    case StatusCode::kUnavailable:
      return "Unavailable";
    case StatusCode::kDeadlineExceeded:
      return "DeadlineExceeded";
    case StatusCode::kUnsupported:
      return "Unsupported";
    case StatusCode::kCancelled:
      return "Cancelled";
    case StatusCode::kCorruption:
      return "Corruption";
    case StatusCode::kStale:
      return "Stale";
    case StatusCode::kPermissionDenied:
      return "PermissionDenied";
  }
  return "Internal";
}

}  // namespace

nb::object exception_of(const Status& status) {
  // Messages may carry bytes of a peer, which need not be UTF-8.
  const std::string message(status.message());
  const auto text = nb::steal(
      PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace"));
  return nb::module_::import_("mempool.errors")
      .attr(class_of(status.code()))(status.code(), text, status.retry_after_ms());
}

void raise(const Status& status) {
  const nb::object error = exception_of(status);
  PyErr_SetObject(error.type().ptr(), error.ptr());
  throw nb::python_error();
}

}  // namespace mempool::python
