// SPDX-License-Identifier: Apache-2.0
// Owns the transport contract: what a backend offers (Capabilities), how memory is made known
// (Transport) and how bytes move over a connection (Endpoint). docs/backend_guide.md explains it.
//
// One-sided, with remote addressing, is the native shape: the source (or for reads the sink) names
// local and remote ranges; the other side only opened a *slot*, its word for one transfer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mempool/status.h"
#include "transport/gather_plan.h"

namespace boost::asio {
class io_context;
}

namespace mempool {

enum class MemoryKind : uint8_t { kHost = 1, kDevice = 2 };

/// Where the owner of a region says that its blocks were reused: a table of atomic 64-bit words,
/// one a block, raised before a byte of the block changes hands. Blocks repeat every blocks *
/// block_stride bytes of the region.
struct RegionGenerations {
  int descriptor = -1;  // memfd that holds the table; -1: the region has none
  uint32_t first_block = 0;
  uint32_t blocks = 0;
  uint64_t block_stride = 0;
};

/// Memory to be registered. The owner keeps it mapped until deregistered.
struct Region {
  uint32_t id = 0;  // the agent's number for it, the same for every transport
  MemoryKind kind = MemoryKind::kHost;
  bool adopted = false;  // an engine's own memory rather than the pool's
  std::byte* base = nullptr;
  uint64_t bytes = 0;
  int descriptor = -1;  // memfd (later dma-buf) that maps it from its first byte on, or -1
  RegionGenerations generations = {};
};

/// A target's word for one transfer. The generation tells late frames of an earlier use apart.
struct Slot {
  uint32_t index = 0;
  uint32_t generation = 0;
  bool operator==(const Slot&) const = default;
};

enum class Operation : uint8_t { kWrite, kRead };

/// Whose connection it is: outbound serves our endpoint, inbound the peer's.
enum class Direction : uint8_t { kOutbound, kInbound };

/// What a backend can do, filled at open. Data, so that nobody above asks which backend it is.
struct Capabilities {
  std::string name;
  bool write = false;                   // one-sided write
  bool read = false;                    // one-sided read
  bool notify = false;                  // can tell the target that a slot's writes have landed
  bool target_checks = false;           // the target's end asks admits() before it moves a byte
  bool reads_at_post = false;           // a read is over when post() returns; it asks no target
  bool counts_system_calls = false;     // ours, not a vendor library's
  bool needs_peer_call = false;         // both sides must call (NCCL)
  bool rdma = false;                    // a NIC reads and writes the memory of both ends
  uint32_t gather_pieces = 1;           // local pieces a write may name
  uint32_t scatter_pieces = 1;          // local pieces a read may name
  uint32_t remote_ranges = 1;           // remote ranges one call may name
  uint64_t message_bytes = UINT64_MAX;  // largest call
  uint32_t calls_in_flight = 1;         // posted and not completed, an endpoint
  uint32_t reads_in_flight = 1;
  uint8_t memory_kinds =
      static_cast<uint8_t>(MemoryKind::kHost);  // mask of kinds it moves directly

  CallLimits limits(Operation operation) const {
    return {operation == Operation::kWrite ? gather_pieces : scatter_pieces, remote_ranges,
            message_bytes};
  }
};

/// What a backend has done since it was opened, or an endpoint since it was connected.
struct CallCounts {
  uint64_t network_calls = 0;  // work requests, puts, frames
  uint64_t run_pairs = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> system_calls = 0;  // ours only; none for vendor backends
  uint64_t doorbells = 0;                    // lists of work requests handed to a NIC
  uint64_t completions = 0;                  // entries taken from a NIC's completion queues
  uint64_t strays = 0;                       // notifications that belonged to nothing

  CallCounts& operator+=(const CallCounts& more) {
    network_calls += more.network_calls;
    run_pairs += more.run_pairs;
    bytes += more.bytes;
    if (!more.system_calls) system_calls.reset();
    if (system_calls) *system_calls += *more.system_calls;
    doorbells += more.doorbells;
    completions += more.completions;
    strays += more.strays;
    return *this;
  }
};

/// One operation: run pairs within the backend's limits, on behalf of a slot of the peer.
struct Call {
  Operation operation = Operation::kWrite;
  Slot slot;
  uint64_t cookie = 0;  // comes back with the completion
  std::span<const RunPair> pairs;
};

/// What a backend tells the layer above, never from inside a call of its own.
/// Thread: confined to the transport's thread.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;
  /// A posted call or notification ended. Ok for a write: the source may be reused. Ok for a read:
  /// the bytes are here.
  virtual void on_completion(uint64_t cookie, const Status& status) = 0;
  /// A peer's writes into an open slot have landed on one lane; comes once a lane.
  virtual void on_notified(uint64_t peer, Slot slot) = 0;
  /// The connection to or from a peer is gone; our calls on it have completed with kUnavailable.
  virtual void on_lost(uint64_t peer, Direction direction, const Status& why) = 0;
  /// The fence asked for is done: nothing of that peer can land any more.
  virtual void on_fenced(uint64_t peer) = 0;
  /// Ask whether a peer's range lies inside what the slot reserved. Backends with target_checks ask
  /// once for every remote range of a call that names an open slot, before the first of its bytes
  /// lands (of a read: is sent); the answer holds until close_slot(). A refused range ends the
  /// connection. A call that names no open slot moves nothing, and nothing is asked.
  virtual bool admits(uint64_t peer, Slot slot, Operation operation, uint32_t region,
                      uint64_t offset, uint64_t bytes) = 0;
};

/// One way to one peer, over which this side posts. Thread: confined to the transport's thread.
class Endpoint {
 public:
  virtual ~Endpoint() = default;

  /// Learn the peer's key for one of its regions. Errors: kInvalidArgument for a malformed key.
  virtual Status import_key(uint32_t remote_region, std::span<const std::byte> key) = 0;
  /// Start a call. Errors, with nothing started: kResourceExhausted when calls_in_flight is
  /// reached (a completion makes room); kUnsupported past the capabilities; kInvalidArgument for an
  /// unknown region or a range outside it, here or by the peer's key; kUnavailable when the
  /// connection is gone. Whether the slot is open is the target's to know.
  virtual Status post(const Call& call) = 0;
  /// After every earlier write of `slot`, tell the target on each lane. Completes as a call.
  virtual Status notify(Slot slot, uint64_t cookie) = 0;
  /// Send nothing more of `slot`: calls not yet begun complete with kCancelled, those under way
  /// complete when no more of their source bytes will be read.
  virtual void stop(Slot slot) = 0;
  /// Lanes that writes may use, the same from connect on: how many notifications a slot's target
  /// counts.
  virtual uint32_t lanes() const = 0;
  virtual CallCounts counts() const = 0;
  /// Name the devices that it goes over, where the backend chooses among them; else it is empty.
  virtual std::string route() const { return {}; }
  /// Break the connection; whatever is posted completes with kUnavailable. The destructor does so
  /// too. on_lost() is not called for it.
  virtual void close() = 0;
};

/// A backend: memory registration, the target's half, and connecting. Its endpoints go before it
/// does, and it before its io_context. Thread: confined to the io_context's thread.
class Transport {
 public:
  using ConnectHandler = std::function<void(Result<std::unique_ptr<Endpoint>>)>;

  virtual ~Transport() = default;
  virtual const Capabilities& capabilities() const = 0;

  // ---- memory ----
  /// Errors: kAlreadyExists; kInvalidArgument for an empty region; kUnsupported for a kind that the
  /// capabilities do not name.
  virtual Status register_region(const Region& region) = 0;
  /// Errors: kNotFound; kResourceExhausted while something under way uses the region: try again.
  /// A backend whose calls end inside post() may wait for them instead.
  virtual Status deregister_region(uint32_t region) = 0;
  /// Give what a peer needs to name the region; secret, travels on the control plane only.
  virtual Result<std::vector<std::byte>> export_key(uint32_t region) const = 0;

  // ---- connection ----
  /// Give what `peer` needs to connect here (host and port; queue pair numbers).
  virtual Result<std::vector<std::byte>> address_for(uint64_t peer) = 0;
  /// Connect to the agent with incarnation `peer`; `host` is where its control plane was reached.
  /// The handler is called later, unless the transport goes first. Errors: kInvalidArgument for a
  /// malformed address; kStale where another incarnation answers; kPermissionDenied for another
  /// token; kUnavailable.
  virtual void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
                       ConnectHandler handler) = 0;

  // ---- the target's half ----
  /// Expect writes (or reads) of `peer` under `slot`. Errors: kAlreadyExists while a generation of
  /// the slot is open.
  virtual Status open_slot(uint64_t peer, Slot slot) = 0;
  /// Expect no more: what a checking backend still receives for it is discarded, in the middle of a
  /// call too, and its reads complete with kCancelled. From here on no backend tells a notification
  /// of it, one that came before and has not been told yet included.
  virtual void close_slot(uint64_t peer, Slot slot) = 0;
  /// Move this side's end for `peer` to error and drain it; on_fenced() follows, for a peer that
  /// never connected too. Connections of both directions are gone then and its slots closed,
  /// without on_lost() on this side; a new connect starts clean.
  virtual void fence(uint64_t peer) = 0;
  /// Everything its endpoints did and its target half served.
  virtual CallCounts counts() const = 0;
};

}  // namespace mempool
