// SPDX-License-Identifier: Apache-2.0
// Owns the handler that UCX gives its records to.
#include "transport/ucx/ucx_words.h"

#include <fmt/format.h>
#include <ucs/debug/log_def.h>

#include <cstdarg>
#include <cstdio>
#include <mutex>

#include "core/log.h"

namespace mempool {
namespace {

thread_local UcxWords* taking = nullptr;

// What UCX says outside of our calls, which peers can cause, and on threads of its own. Its formats
// are the causes: there are as many as its source has. Never destroyed, as those threads may go on.
void log_bounded(const char* format, const char* text) {
  static std::mutex& mutex = *new std::mutex;
  static BoundedLog& records = *new BoundedLog;
  const std::lock_guard lock(mutex);
  records.warning(format, "ucx: {}", text);
}

}  // namespace

struct UcxWordsTaker {
  static ucs_log_func_rc_t take(const char*, unsigned, const char*, ucs_log_level_t level,
                                const ucs_log_component_config_t*, const char* format,
                                va_list arguments) {
    // What an operator asked for with UCX_LOG_LEVEL goes where UCX_LOG_FILE says.
    if (level > UCS_LOG_LEVEL_WARN) return UCS_LOG_FUNC_RC_CONTINUE;
    char text[1024];
    std::vsnprintf(text, sizeof text, format, arguments);
    if (taking == nullptr) {
      log_bounded(format, text);
    } else {
      if (!taking->said_.empty()) taking->said_ += '\n';
      taking->said_ += text;
    }
    return UCS_LOG_FUNC_RC_STOP;
  }
};

UcxWords::UcxWords() : outer_(taking) {
  taking = this;
}

UcxWords::~UcxWords() {
  taking = outer_;
}

Status UcxWords::failure(ucs_status_t status, const std::string& what) const {
  const std::string text = fmt::format("{}: UCX: {}{}{}", what, ucs_status_string(status),
                                       said_.empty() ? "" : ": ", said_);
  switch (status) {
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_EXCEEDS_LIMIT:
      return resource_exhausted(text);
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
      return invalid_argument(text);
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NOT_IMPLEMENTED:
      return unsupported(text);
    default:
      return unavailable(text);
  }
}

Status with_mend(const Status& failure, std::string_view mend) {
  return {failure.code(), fmt::format("{}; {}", failure.message(), mend)};
}

void log_ucx_as_ours() {
  static std::once_flag once;
  std::call_once(once, [] { ucs_log_push_handler(&UcxWordsTaker::take); });
}

}  // namespace mempool
