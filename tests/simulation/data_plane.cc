// SPDX-License-Identifier: Apache-2.0
// Owns the life of a data call: begun (read), landed, ended; and of a slot's notifications.
#include "tests/simulation/data_plane.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tests/simulation/instance.h"
#include "tests/simulation/network.h"
#include "transport/shard_pairs.h"

namespace mempool::simulation {
namespace {

constexpr size_t kMostPairs = 16;  // of one call
constexpr Duration kStep = std::chrono::microseconds(5);

/// The pool block that holds a byte of a region.
uint32_t block_at(const BlockPool& pool, uint32_t region, uint64_t offset) {
  const PoolSegment& segment = *pool.segments().find_region(region);
  const uint64_t array_bytes = segment.layout.block_stride * segment.blocks;
  return segment.first_block +
         static_cast<uint32_t>(offset % array_bytes / segment.layout.block_stride);
}

}  // namespace

void DataPlane::post(Instance& source, const PostData& data) {
  Connection& connection = network_.connection(data.session);
  const auto send = std::make_shared<Send>();
  send->source = &source;
  send->target = connection.ends[Connection::kAcceptor].instance;
  send->id = data.transfer;
  send->connection = &connection;
  send->slot = data.slot;
  send->reads = data.operation == Operation::kRead;
  send->open = 1;
  send->turn = run_.now();
  send->report.transport = "simulated";
  send->report.lanes = static_cast<uint32_t>(connection.lanes.size());
  const std::vector<PlanSegment> local = source.plan_segments();
  const std::vector<PlanSegment>& remote = connection.target.segments;
  for (const ShardPair& pair :
       send->reads ? pair_shards(remote, local) : pair_shards(local, remote)) {
    auto plan = GatherPlan::create({send->reads ? pair.to : pair.from, data.local_blocks},
                                   {send->reads ? pair.from : pair.to, data.remote_blocks});
    if (!plan.ok()) {
      run_.fail("a plan of the simulation's own layouts: " + plan.status().to_string());
      return;
    }
    send->report.bytes += plan->bytes();
    send->plans.push_back(std::move(*plan));
  }
  sends_[{&source, data.transfer}] = send;
}

void DataPlane::post_layers(Instance& source, const PostLayers& data) {
  const auto it = sends_.find({&source, data.transfer});
  if (it == sends_.end() || it->second->stopped) return;
  const SendRef send = it->second;
  for (GatherPlan& plan : send->plans) {
    plan.select_layers(data.layers);
    std::array<RunPair, kMostPairs> pairs;
    while (const size_t count = plan.next_call(run_.options().call_limits, pairs)) {
      post_call(send, std::span(pairs).first(count));
    }
  }
}

void DataPlane::post_call(const SendRef& send, std::span<const RunPair> pairs) {
  Write& write = send->writes.emplace_back();
  write.pairs.assign(pairs.begin(), pairs.end());
  write.lane = static_cast<uint32_t>(run_.random().below(send->connection->lanes.size()));
  ++send->open;
  // Hardware works on while its process is stopped, not when it is gone.
  const bool by_process = run_.options().checked_writes;
  take_turn(send, by_process, [this, send, index = send->writes.size() - 1] {
    send->reads ? ask(send, index) : begin(send, index);
  });
}

void DataPlane::finish(Instance& source, TransferId transfer) {
  const auto it = sends_.find({&source, transfer});
  if (it == sends_.end() || it->second->stopped) return;
  take_turn(it->second, true, [this, send = it->second] { notify(send); });
}

void DataPlane::take_turn(const SendRef& send, bool by_process, std::function<void()> act) {
  send->turn = std::max(send->turn, run_.now()) + run_.draw(run_.options().data) / 4;
  run_.at(send->turn, [send, by_process, act = std::move(act)] {
    if (by_process) {
      send->source->in_process(act);
    } else if (send->source->alive()) {
      act();
    }
  });
}

TimePoint DataPlane::landing_time(Connection& connection, uint32_t lane) {
  TimePoint& last = connection.lanes[lane];
  last = std::max(last + kStep, run_.now() + run_.draw(run_.options().data));
  return last;
}

void DataPlane::begin(const SendRef& send, size_t index) {
  Write& write = send->writes[index];
  if (write.ended) return;
  write.begun = true;
  const BlockPool& pool = send->source->pool();
  for (const RunPair& pair : write.pairs) {
    if (pool.pins_of(kAgentSession, block_at(pool, pair.local_region, pair.local_offset)) == 0) {
      run_.fail(send->source->name() + " sends a block that its machine does not pin any more");
    }
    const std::byte* from =
        pool.segments().find_region(pair.local_region)->memory.data + pair.local_offset;
    write.bytes.insert(write.bytes.end(), from, from + pair.bytes);
  }
  if (run_.faulty(run_.options().corrupt)) {
    run_.trace("a bit flips on the way to {}", send->target->name());
    write.bytes[run_.random().below(write.bytes.size())] ^= std::byte{4};
  }
  network_.deliver(network_.place(send->source->name()), network_.place(send->target->name()),
                   landing_time(*send->connection, write.lane) - run_.now(),
                   [this, send, index] { land(send, index); });
  if (run_.options().checked_writes) end_write(send, index, Status());
}

void DataPlane::land(const SendRef& send, size_t index) {
  if (run_.options().checked_writes) {
    send->target->in_process([this, send, index] { land_pairs(*send, send->writes[index]); });
    return;
  }
  const bool arrives = send->target->alive() && !send->connection->fenced;
  if (arrives) land_pairs(*send, send->writes[index]);
  const Status status = arrives ? Status() : unavailable("the peer's end is gone");
  network_.deliver(
      network_.place(send->target->name()), network_.place(send->source->name()),
      run_.draw(run_.options().data), [this, send, index, status] {
        send->source->in_process([this, send, index, status] { end_write(send, index, status); });
      });
}

void DataPlane::land_pairs(Send& send, const Write& write) {
  if (send.connection->fenced) return;
  size_t from = 0;
  for (const RunPair& pair : write.pairs) {
    std::byte* to = send.target->pool().segments().find_region(pair.remote_region)->memory.data +
                    pair.remote_offset;
    if (may_land(send, pair)) std::memcpy(to, write.bytes.data() + from, pair.bytes);
    from += pair.bytes;
  }
}

// ---- reads -------------------------------------------------------------------------------------

void DataPlane::ask(const SendRef& send, size_t index) {
  Write& write = send->writes[index];
  if (write.ended) return;
  write.begun = true;
  network_.deliver(network_.place(send->source->name()), network_.place(send->target->name()),
                   landing_time(*send->connection, write.lane) - run_.now(), [this, send, index] {
                     if (run_.options().checked_writes) {
                       send->target->in_process([this, send, index] { answer(send, index); });
                     } else {
                       answer(send, index);
                     }
                   });
}

void DataPlane::answer(const SendRef& send, size_t index) {
  const Status status = read_leased(*send, send->writes[index]);
  const auto arrive = [this, send, index, status] {
    if (run_.options().checked_writes) {
      send->source->in_process([this, send, index, status] {
        if (!send->stopped) land_answer(send, index, status);
        end_write(send, index, status);
      });
      return;
    }
    if (send->source->alive()) land_answer(send, index, status);
    send->source->in_process([this, send, index, status] { end_write(send, index, status); });
  };
  network_.deliver(network_.place(send->target->name()), network_.place(send->source->name()),
                   run_.draw(run_.options().data), arrive);
}

Status DataPlane::read_leased(Send& send, Write& write) {
  Instance& target = *send.target;
  const Connection& connection = *send.connection;
  const bool checked = run_.options().checked_writes;
  if (!target.alive() || connection.fenced) return unavailable("the peer's end is gone");
  if (checked &&
      std::ranges::find(connection.open_slots, send.slot) == connection.open_slots.end()) {
    return cancelled("the slot is closed");
  }
  for (const RunPair& pair : write.pairs) {
    const uint32_t block = block_at(target.pool(), pair.remote_region, pair.remote_offset);
    if (target.pool().pins_of(connection.session, block) == 0) {
      run_.fail(fmt::format("session {} reads block {} of {}, which is not leased to it",
                            connection.session, block, target.name()));
    }
    if (checked && !target.target().admits(connection.session, send.slot, Operation::kRead,
                                           pair.remote_region, pair.remote_offset, pair.bytes)) {
      run_.fail(target.name() + " does not admit a range of a lease");
    }
    const std::byte* from =
        target.pool().segments().find_region(pair.remote_region)->memory.data + pair.remote_offset;
    write.bytes.insert(write.bytes.end(), from, from + pair.bytes);
  }
  if (run_.faulty(run_.options().corrupt)) {
    run_.trace("a bit flips on the way to {}", send.source->name());
    write.bytes[run_.random().below(write.bytes.size())] ^= std::byte{4};
  }
  return {};
}

void DataPlane::land_answer(const SendRef& send, size_t index, const Status& status) {
  Write& write = send->writes[index];
  if (!status.ok() || send->cut || write.ended) return;
  const BlockPool& pool = send->source->pool();
  size_t from = 0;
  for (const RunPair& pair : write.pairs) {
    if (pool.pins_of(kAgentSession, block_at(pool, pair.local_region, pair.local_offset)) == 0) {
      run_.fail(send->source->name() + " is written into a place that its machine does not pin");
    }
    std::byte* to = pool.segments().find_region(pair.local_region)->memory.data + pair.local_offset;
    std::memcpy(to, write.bytes.data() + from, pair.bytes);
    from += pair.bytes;
  }
}

/// Where the target checks, what was posted before a slot closed is discarded, and anything else
/// must be admitted. Where it does not, nothing may be under way to a block that was given back.
bool DataPlane::may_land(const Send& send, const RunPair& pair) {
  Instance& target = *send.target;
  const Connection& connection = *send.connection;
  if (run_.options().checked_writes) {
    if (std::ranges::find(connection.open_slots, send.slot) == connection.open_slots.end()) {
      return false;
    }
    const bool admitted =
        target.target().admits(connection.session, send.slot, Operation::kWrite, pair.remote_region,
                               pair.remote_offset, pair.bytes);
    if (!admitted) run_.fail(target.name() + " does not admit a range of an open slot");
    return admitted;
  }
  const uint32_t first = block_at(target.pool(), pair.remote_region, pair.remote_offset);
  const uint32_t last =
      block_at(target.pool(), pair.remote_region, pair.remote_offset + pair.bytes - 1);
  for (uint32_t block = std::min(first, last); block <= std::max(first, last); ++block) {
    const BlockState state = target.pool().state(block);
    if (state == BlockState::kReserved || state == BlockState::kQuarantined) continue;
    run_.fail(fmt::format("bytes of session {} land in block {} of {}, which is {}",
                          connection.session, block, target.name(), to_string(state)));
  }
  return true;
}

void DataPlane::notify(const SendRef& send) {
  if (send->notified || send->done || send->stopped) return;
  send->notified = true;
  send->report.posted = run_.now();
  if (send->reads) {
    close_one(send);
    return;
  }
  for (uint32_t lane = 0; lane < send->connection->lanes.size(); ++lane) {
    const Duration delay = landing_time(*send->connection, lane) - run_.now();
    if (run_.faulty(run_.options().lost_notification)) continue;
    network_.deliver(network_.place(send->source->name()), network_.place(send->target->name()),
                     delay, [this, send] {
                       send->target->in_process([this, send] {
                         if (send->connection->fenced) return;
                         send->target->target().on_notified(send->connection->session, send->slot);
                       });
                     });
  }
  close_one(send);
}

void DataPlane::end_write(const SendRef& send, size_t index, const Status& status) {
  if (send->done || std::exchange(send->writes[index].ended, true)) return;
  if (!status.ok()) send->failure = status;
  close_one(send);
}

void DataPlane::close_one(const SendRef& send) {
  if (--send->open > 0) return;
  run_.after(kStep, [this, send] {
    send->source->in_process([this, send] {
      if (std::exchange(send->done, true)) return;
      sends_.erase({send->source, send->id});
      const Status status =
          send->stopped && send->failure.ok() ? cancelled("stopped") : send->failure;
      send->source->source().on_data_done(send->id, status, send->report, run_.now());
    });
  });
}

void DataPlane::stop(Instance& source, TransferId transfer) {
  const auto it = sends_.find({&source, transfer});
  if (it == sends_.end() || it->second->open == 0) return;  // done, and about to be told
  const SendRef send = it->second;
  send->stopped = true;
  for (size_t index = 0; index < send->writes.size(); ++index) {
    const bool with_hardware = !run_.options().checked_writes && run_.random().chance(0.5);
    if (!send->writes[index].begun && !with_hardware) end_write(send, index, Status());
  }
  if (!send->notified) close_one(send);
}

void DataPlane::cut(Connection& connection) {
  std::vector<SendRef> affected;
  for (const auto& [key, send] : sends_) {
    if (send->connection == &connection) affected.push_back(send);
  }
  for (const SendRef& send : affected) {
    if (send->open == 0) continue;
    send->failure = unavailable("the session is over");
    send->cut = true;
    for (Write& write : send->writes) write.ended = true;
    send->notified = true;
    send->open = 1;
    close_one(send);
  }
}

void DataPlane::open_slot(SessionId session, Slot slot) {
  network_.connection(session).open_slots.push_back(slot);
}

void DataPlane::close_slot(SessionId session, Slot slot) {
  std::erase(network_.connection(session).open_slots, slot);
}

}  // namespace mempool::simulation
