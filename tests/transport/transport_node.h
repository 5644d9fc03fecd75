// SPDX-License-Identifier: Apache-2.0
// Owns a transport under test with an agent's place taken by a record of what it is told.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/host_memory.h"
#include "transport/transport.h"
#include "transport/transport_registry.h"

namespace mempool {

/// A node's memory, compared and copied as a vector. Thread: confined.
class NodeMemory : public std::span<std::byte> {
 public:
  using std::span<std::byte>::span;
  operator std::vector<std::byte>() const { return {begin(), end()}; }  // NOLINT: implicit
  friend bool operator==(const NodeMemory& memory, const std::vector<std::byte>& bytes) {
    return std::equal(memory.begin(), memory.end(), bytes.begin(), bytes.end());
  }
};

struct NodeOptions {
  std::string transport;
  TransportRegistry::Factory factory;  // opens the transport instead of the registry, when given
  uint64_t incarnation = 1;
  std::string token = "a token";
  uint64_t region_bytes = uint64_t{1} << 20;
  bool anonymous = false;         // the region has no descriptor
  RegionGenerations generations;  // of the region
  std::map<std::string, std::string> options;
};

/// The registry with everything that is built in, and decorated forms of it.
const TransportRegistry& test_registry();

/// One end: a transport on an io_context of its own, one registered region, and all events in
/// order. Thread: confined.
class TransportNode final : public TransportEvents {
 public:
  static constexpr uint32_t kRegion = 7;
  struct Completion {
    uint64_t cookie;
    Status status;
  };

  explicit TransportNode(NodeOptions options);
  ~TransportNode() override;

  Transport& transport() { return *transport_; }
  const Capabilities& capabilities() const { return transport_->capabilities(); }
  uint64_t incarnation() const { return options_.incarnation; }
  NodeMemory& memory() { return memory_; }
  /// Its one region, as it was registered.
  Region region() const;
  /// The context that this node's transport was opened with.
  TransportContext context();
  /// Run what is ready, without waiting. True when there was something.
  bool poll();
  /// Run one handler that is ready, if there is one.
  void step();
  /// Run what is ready, waiting for it a moment.
  void poll_or_wait();
  void destroy_transport() { transport_.reset(); }

  /// Connect to `target` and import its region's key. Null, with `why` set, when that fails.
  std::unique_ptr<Endpoint> connect(TransportNode& target, Status* why = nullptr);

  Status completion_of(uint64_t cookie) const;
  bool completed(uint64_t cookie) const;

  std::vector<Completion> completions;
  std::vector<Slot> notified;
  std::vector<Status> lost;
  std::vector<uint64_t> fenced;
  std::function<bool(Slot, Operation, uint32_t region, uint64_t offset, uint64_t bytes)> admission;

 private:
  void on_completion(uint64_t cookie, const Status& status) override;
  void on_notified(uint64_t peer, Slot slot) override;
  void on_lost(uint64_t peer, Direction direction, const Status& why) override;
  void on_fenced(uint64_t peer) override;
  bool admits(uint64_t peer, Slot slot, Operation operation, uint32_t region, uint64_t offset,
              uint64_t bytes) override;

  struct Running;
  NodeOptions options_;
  HostMemory host_memory_;
  NodeMemory memory_;
  std::unique_ptr<Running> loop_;  // hides Asio from the tests
  std::unique_ptr<Transport> transport_;
};

/// Run all nodes until `condition` holds. False when that does not happen within a bounded time.
bool run_until(std::initializer_list<TransportNode*> nodes, const std::function<bool()>& condition);
/// Run all nodes until none has anything left to do.
void settle(std::initializer_list<TransportNode*> nodes);

}  // namespace mempool
