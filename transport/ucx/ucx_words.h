// SPDX-License-Identifier: Apache-2.0
// Owns what UCX says: its log records go to ours, and its errors become a Status in its own words.
#pragma once

#include <ucs/type/status.h>

#include <string>
#include <string_view>

#include "mempool/status.h"

namespace mempool {

/// Take UCX's records, for the length of a call of it on this thread, instead of logging them: what
/// they say belongs into the call's Status. Thread: confined.
class UcxWords {
 public:
  UcxWords();
  ~UcxWords();
  UcxWords(const UcxWords&) = delete;
  UcxWords& operator=(const UcxWords&) = delete;

  /// Give what was said, one record a line.
  const std::string& said() const { return said_; }
  /// Tell of a call that failed: what was asked for, UCX's name for it and what it said.
  Status failure(ucs_status_t status, const std::string& what) const;

 private:
  friend struct UcxWordsTaker;
  std::string said_;
  UcxWords* const outer_;
};

/// Say behind a failure what mends it.
Status with_mend(const Status& failure, std::string_view mend);

/// Let UCX log through us; it would write to the standard output. May be called again.
void log_ucx_as_ours();

}  // namespace mempool
