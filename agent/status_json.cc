// SPDX-License-Identifier: Apache-2.0
// Owns the names of the status's fields.
#include "agent/status_json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace mempool {

std::string status_json(const AgentStatus& status) {
  nlohmann::json transports = nlohmann::json::array();
  for (const AgentStatus::TransportState& transport : status.transports) {
    transports.push_back({{"name", transport.name}, {"closed", transport.closed}});
  }
  nlohmann::json peers = nlohmann::json::array();
  for (const AgentStatus::Peer& peer : status.peers) {
    peers.push_back({{"name", peer.name},
                     {"role", peer.role},
                     {"up", peer.up},
                     {"transport", peer.transport},
                     {"route", peer.route},
                     {"refusals", peer.refusals}});
  }
  nlohmann::json engines = nlohmann::json::array();
  for (const AgentStatus::Engine& engine : status.engines) {
    engines.push_back(
        {{"shard", engine.shard}, {"process", engine.process}, {"attached", engine.attached}});
  }
  nlohmann::json adopted = nlohmann::json::array();
  for (const AgentStatus::Adopted& memory : status.adopted) {
    adopted.push_back({{"name", memory.name},
                       {"blocks", memory.blocks},
                       {"in_place", memory.in_place},
                       {"complete", memory.complete}});
  }
  nlohmann::json tenants = nlohmann::json::array();
  for (const AgentStatus::Tenant& tenant : status.tenants) {
    tenants.push_back({{"name", tenant.name},
                       {"published", tenant.published},
                       {"awaited", tenant.awaited},
                       {"quota", tenant.quota},
                       {"floor", tenant.floor}});
  }
  const nlohmann::json document = {{"name", status.name},
                                   {"incarnation", fmt::format("{:016x}", status.incarnation)},
                                   {"listen", status.listen},
                                   {"admin", status.admin},
                                   {"pool",
                                    {{"shards", status.shards},
                                     {"block_bytes", status.block_bytes},
                                     {"page_bytes", status.page_bytes},
                                     {"page_note", status.page_note},
                                     {"total", status.total},
                                     {"segments", status.segments},
                                     {"blocks", status.blocks},
                                     {"pins", status.pins},
                                     {"quarantine", status.quarantine}}},
                                   {"index",
                                    {{"blocks", status.index_blocks},
                                     {"nodes", status.index_nodes},
                                     {"bytes", status.index_bytes}}},
                                   {"tenants", tenants},
                                   {"transports", transports},
                                   {"peers", peers},
                                   {"engines", engines},
                                   {"adopted", adopted},
                                   {"audit", status.audit.ok() ? "ok" : status.audit.to_string()},
                                   {"ready", status.ready.ok() ? "ok" : status.ready.message()}};
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace mempool
