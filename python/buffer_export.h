// SPDX-License-Identifier: Apache-2.0
// Owns a borrowed buffer of a Python object, given back however the call ends.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <span>

namespace mempool::python {

/// Thread: confined, under the GIL.
class BufferExport {
 public:
  /// Raises what the object does where it has no such contiguous buffer.
  BufferExport(nanobind::handle from, int flags) {
    if (PyObject_GetBuffer(from.ptr(), &buffer_, flags) != 0) throw nanobind::python_error();
  }
  ~BufferExport() { PyBuffer_Release(&buffer_); }
  BufferExport(const BufferExport&) = delete;
  BufferExport& operator=(const BufferExport&) = delete;

  std::span<std::byte> bytes() const {
    return {static_cast<std::byte*>(buffer_.buf), static_cast<size_t>(buffer_.len)};
  }

 private:
  Py_buffer buffer_;
};

}  // namespace mempool::python
