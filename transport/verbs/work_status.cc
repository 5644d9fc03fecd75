// SPDX-License-Identifier: Apache-2.0
// Owns the table of the ends of work requests.
#include "transport/verbs/work_status.h"

#include <fmt/format.h>

#include <cstring>

namespace mempool {
namespace {

struct Meaning {
  StatusCode code;
  WorkFault fault;
  const char* words;
};

Meaning meaning_of(ibv_wc_status status) {
  constexpr StatusCode kPath = StatusCode::kUnavailable;
  constexpr StatusCode kBug = StatusCode::kInternal;
  switch (status) {
    case IBV_WC_RETRY_EXC_ERR:
      return {kPath, WorkFault::kPath,
              "the peer has not acknowledged within verbs.timeout and verbs.retries: it is gone, "
              "or the network between the two devices is; look at both ports and the switch"};
    case IBV_WC_RNR_RETRY_EXC_ERR:
      return {kPath, WorkFault::kPath,
              "the peer had no receive for a notification within verbs.receiver_retries: it is "
              "overloaded or stands still; raise verbs.receives there"};
    case IBV_WC_WR_FLUSH_ERR:
      return {kPath, WorkFault::kPath, "the queue pair was broken before"};
    case IBV_WC_REM_ACCESS_ERR:
      return {StatusCode::kPermissionDenied, WorkFault::kPeer,
              "the peer's device refused the access: the key is none of its regions, or has been "
              "withdrawn; ask the peer anew"};
    case IBV_WC_REM_INV_REQ_ERR:
      return {kBug, WorkFault::kPeer,
              "the peer's device took the request for malformed; both ends need one version"};
    case IBV_WC_REM_OP_ERR:
      return {kPath, WorkFault::kPath,
              "the peer's device could not finish the request; look at its kernel log"};
    case IBV_WC_REM_ABORT_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
      return {kPath, WorkFault::kPath, "the peer's device gave the request up"};
    case IBV_WC_RESP_TIMEOUT_ERR:
    case IBV_WC_BAD_RESP_ERR:
      return {kPath, WorkFault::kPath, "the peer's answer did not come or made no sense"};
    case IBV_WC_LOC_QP_OP_ERR:
      return {kPath, WorkFault::kPath,
              "this side's device could not send: its port or link is down; see `mempool doctor`"};
    case IBV_WC_GENERAL_ERR:
    case IBV_WC_FATAL_ERR:
      return {kPath, WorkFault::kPath,
              "this side's device or its driver failed; look at the kernel log"};
    case IBV_WC_LOC_ACCESS_ERR:
    case IBV_WC_LOC_PROT_ERR:
      return {kBug, WorkFault::kOwn,
              "this side's device refused our own memory: the region is not registered with it"};
    case IBV_WC_LOC_LEN_ERR:
      return {kBug, WorkFault::kOwn,
              "the request is longer than this side's device takes; lower verbs.message_bytes"};
    default:
      return {kBug, WorkFault::kOwn, "an error that reliable queue pairs do not have"};
  }
}

}  // namespace

WorkFault fault_of(ibv_wc_status status) {
  return meaning_of(status).fault;
}

Status work_status(ibv_wc_status status, uint32_t vendor_error, const std::string& device) {
  if (status == IBV_WC_SUCCESS) return {};
  const Meaning meaning = meaning_of(status);
  return {meaning.code, fmt::format("{}: {} ({}, vendor code {:#x})", device, meaning.words,
                                    ibv_wc_status_str(status), vendor_error)};
}

Status verbs_error(StatusCode code, const std::string& what, int error) {
  return {code, fmt::format("{}: {}", what, std::strerror(error))};
}

}  // namespace mempool
