// SPDX-License-Identifier: Apache-2.0
// Owns the states that a queue pair goes through.
#include "transport/verbs/queue_pair.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "core/check.h"
#include "core/random.h"
#include "transport/verbs/work_status.h"

namespace mempool {
namespace {

constexpr uint32_t kSequenceMask = 0xffffff;  // packet sequence numbers have 24 bits
constexpr uint8_t kHopLimit = 64;
// Wait of a sender whose notification found no receive: 10.24 ms (20 of the specification's table).
constexpr uint8_t kReceiverWait = 20;

ibv_mtu mtu_of(uint32_t bytes) {
  return static_cast<ibv_mtu>(std::countr_zero(bytes) - 7);  // 256 is IBV_MTU_256
}

Status check_ports(const PortAddress& own, const PortAddress& peer, const VerbsOptions& options) {
  if (own.kind != peer.kind) {
    return unsupported(fmt::format(
        "this port speaks {}, the peer's {}; set verbs.gid_index so that both are the same",
        to_string(own.kind), to_string(peer.kind)));
  }
  if (options.mtu != 0 && peer.mtu != own.mtu) {
    return unsupported(
        fmt::format("verbs.mtu = {} here, and the peer's port has {}; set the same on both, or 0",
                    own.mtu, peer.mtu));
  }
  return {};
}

}  // namespace

Result<QueuePair> QueuePair::create(const VerbsDevice& device, const VerbsOptions& options,
                                    ibv_cq* completions, ibv_srq* receives,
                                    const QueueShape& shape) {
  ibv_qp_init_attr wanted{};
  wanted.send_cq = completions;
  wanted.recv_cq = completions;
  wanted.srq = receives;
  wanted.qp_type = IBV_QPT_RC;
  wanted.cap.max_send_wr = shape.sends;
  wanted.cap.max_recv_wr = receives == nullptr ? 1 : 0;
  wanted.cap.max_send_sge = shape.pieces;
  wanted.cap.max_recv_sge = 1;
  QueuePair made;
  made.device_ = &device;
  made.options_ = &options;
  made.sequence_ = static_cast<uint32_t>(random_word()) & kSequenceMask;
  made.handle_.reset(ibv_create_qp(device.domain(), &wanted));
  if (!made.handle_) {
    return verbs_error(StatusCode::kResourceExhausted,
                       fmt::format("{}: a queue pair of {} requests with {} pieces", device.name(),
                                   shape.sends, shape.pieces),
                       errno);
  }
  MEMPOOL_RETURN_IF_ERROR(made.initialize(shape.reached));
  return made;
}

void QueuePair::stop() {
  if (!handle_) return;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  (void)ibv_modify_qp(get(), &attributes, IBV_QP_STATE);  // what refuses it here is broken already
}

void QueuePair::destroy() {
  stop();
  handle_.reset();
}

Status QueuePair::initialize(bool reached) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.pkey_index = options_->pkey_index;
  attributes.port_num = device_->port();
  attributes.qp_access_flags = reached ? IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ : 0;
  const int error = ibv_modify_qp(
      get(), &attributes, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (error == 0) return {};
  return verbs_error(
      StatusCode::kUnavailable,
      fmt::format("{}: a queue pair with pkey_index {}", device_->name(), options_->pkey_index),
      error);
}

Status QueuePair::connect(const PortAddress& port, const QueueAddress& queue) {
  const PortAddress& own = device_->address();
  MEMPOOL_RETURN_IF_ERROR(check_ports(own, port, *options_).with_context(device_->name()));
  MEMPOOL_RETURN_IF_ERROR(ready_to_receive(port, queue, std::min(own.mtu, port.mtu)));
  return ready_to_send(port);
}

Status QueuePair::ready_to_receive(const PortAddress& port, const QueueAddress& queue,
                                   uint32_t mtu) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = mtu_of(mtu);
  attributes.dest_qp_num = queue.number;
  attributes.rq_psn = queue.sequence;
  attributes.max_dest_rd_atomic = std::min(device_->address().reads_in, port.reads_out);
  attributes.min_rnr_timer = kReceiverWait;
  ibv_ah_attr& way = attributes.ah_attr;
  way.port_num = device_->port();
  way.dlid = port.lid;
  way.sl = options_->service_level;
  way.is_global = port.kind == LinkKind::kInfiniBand ? 0 : 1;
  way.grh.dgid = port.gid;
  way.grh.sgid_index = device_->gid_index();
  way.grh.hop_limit = kHopLimit;
  way.grh.traffic_class = options_->traffic_class;
  const int error =
      ibv_modify_qp(get(), &attributes,
                    IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                        IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (error == 0) return {};
  return verbs_error(StatusCode::kUnavailable,
                     fmt::format("{}: no way to the peer's port", device_->name()), error);
}

Status QueuePair::ready_to_send(const PortAddress& port) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = options_->timeout;
  attributes.retry_cnt = options_->retries;
  attributes.rnr_retry = options_->receiver_retries;
  attributes.sq_psn = sequence_;
  attributes.max_rd_atomic = std::min(device_->address().reads_out, port.reads_in);
  const int error = ibv_modify_qp(get(), &attributes,
                                  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
                                      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
  if (error == 0) return {};
  return verbs_error(StatusCode::kUnavailable,
                     fmt::format("{}: a queue pair cannot send", device_->name()), error);
}

Result<GrantedPieces> granted_pieces(const VerbsDevice& device, const VerbsOptions& options) {
  const uint64_t entries = uint64_t{options.queue_depth} * options.queue_pairs;
  const auto most = static_cast<uint64_t>(
      std::min(device.limits().max_qp_wr, static_cast<int>(device.limits().max_cqe)));
  if (entries > most) {
    return invalid_argument(fmt::format(
        "{}: verbs.queue_depth = {} x verbs.queue_pairs = {} is above the device's {}; lower them",
        device.name(), options.queue_depth, options.queue_pairs, most));
  }
  const CompletionHandle completions(
      ibv_create_cq(device.context(), static_cast<int>(options.queue_depth), nullptr, nullptr, 0));
  if (!completions) {
    return verbs_error(StatusCode::kResourceExhausted,
                       fmt::format("{}: a completion queue", device.name()), errno);
  }
  // What a device says it has may be more than it grants together with a deep queue.
  uint32_t pieces = std::min(options.gather, static_cast<uint32_t>(device.limits().max_sge));
  Result<QueuePair> made = internal_error("no queue pair was tried");
  for (; pieces > 0; pieces /= 2) {
    made = QueuePair::create(device, options, completions.get(), nullptr,
                             {options.queue_depth, pieces});
    if (made.ok()) break;
  }
  if (!made.ok()) return made.status();
  const int reads = std::max(device.limits().max_sge_rd, 1);
  return GrantedPieces{pieces, std::min(pieces, static_cast<uint32_t>(reads))};
}

}  // namespace mempool
