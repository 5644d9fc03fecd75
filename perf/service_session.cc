// SPDX-License-Identifier: Apache-2.0
// Owns the two orders that begin a session.
#include "perf/service_session.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/timed_socket.h"
#include "perf/proof_exchange.h"
#include "perf/service_link.h"
#include "perf/transfer_perf.h"
#include "perf/transfer_server.h"

namespace mempool {
namespace {

constexpr std::chrono::seconds kProofTime{5};

/// Measure towards `address`, telling the client of each repeat. Gives the row.
Result<std::string> measure_towards(const std::string& address, const TransferSite& own,
                                    const TransferCase& measured, Channel& channel) {
  MEMPOOL_ASSIGN_OR_RETURN(ServiceLink target, dial_service(address, own));
  const auto tell = [&](uint32_t repeat) {
    // When the client is gone, the row will not find it either.
    (void)channel.send({static_cast<uint32_t>(TransferOrder::kProgress), repeat, {}});
  };
  MEMPOOL_ASSIGN_OR_RETURN(const TransferRow row, run_transfer_perf(measured, target, tell));
  return to_json(row).dump();
}

Status obey(const ChannelMessage& order, const TransferSite& site, Channel& channel,
            std::string& what) {
  if (order.number != kServiceVersion) {
    return unsupported(
        fmt::format("this mempool perf serve speaks version {}, the client {}; upgrade the older",
                    kServiceVersion, order.number));
  }
  const auto kind = static_cast<TransferOrder>(order.kind);
  if (kind == TransferOrder::kBegin) {
    MEMPOOL_ASSIGN_OR_RETURN(const TransferCase measured, parse_case(order.text));
    what = describe(measured);
    return serve_transfers(measured, site, channel);
  }
  if (kind != TransferOrder::kMeasure) return invalid_argument("no order that begins a session");
  const size_t end = order.text.find('\n');
  if (end == std::string::npos) return invalid_argument("an order to measure towards nobody");
  const std::string address = order.text.substr(0, end);
  MEMPOOL_ASSIGN_OR_RETURN(const TransferCase measured, parse_case(order.text.substr(end + 1)));
  what = fmt::format("{} towards {}", describe(measured), address);
  MEMPOOL_ASSIGN_OR_RETURN(std::string row, measure_towards(address, site, measured, channel));
  return channel.send({static_cast<uint32_t>(TransferOrder::kRow), 0, std::move(row)});
}

}  // namespace

SessionOutcome serve_session(Descriptor socket, TransferSite own) {
  Channel channel(std::move(socket));
  SessionOutcome outcome;
  const Result<SocketHosts> hosts = hosts_of(channel.descriptor());
  outcome.client = hosts.ok() ? hosts->far : "somebody";
  outcome.status = hosts.status();
  if (outcome.status.ok()) {
    outcome.status = exchange_proofs(channel.descriptor(), ProofRole::kAcceptor, own.token,
                                     kServicePurpose, TimeLeft(kProofTime));
  }
  if (!outcome.status.ok()) return outcome;
  const Result<ChannelMessage> order = channel.receive();
  own.host = hosts->near;
  outcome.status = order.ok() ? obey(*order, own, channel, outcome.what) : order.status();
  if (!outcome.status.ok()) send_failure(channel, outcome.status);
  return outcome;
}

}  // namespace mempool
