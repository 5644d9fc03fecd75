// SPDX-License-Identifier: Apache-2.0
// Owns the running of nodes under test, all on the test's own thread.
#include "tests/transport/transport_node.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>

#include "transport/asio_loop.h"
#include "transport/counting/counting_transport.h"
#include "transport/fault/fault_transport.h"
#include "transport/local/local_transport.h"
#include "transport/shm/shm_transport.h"
#include "transport/tcp/tcp_transport.h"

namespace mempool {
namespace {

// Far more than anything here takes, so that only a hang reaches it.
constexpr std::chrono::seconds kHang{60};
constexpr std::chrono::milliseconds kMoment{1};

TransportRegistry make_registry() {
  TransportRegistry registry;
  register_transports(registry);
  EXPECT_TRUE(
      registry.add("counting_local", CountingTransport::around(&LocalTransport::open)).ok());
  EXPECT_TRUE(registry.add("counting_tcp", CountingTransport::around(&TcpTransport::open)).ok());
  EXPECT_TRUE(registry.add("counting_shm", CountingTransport::around(&ShmTransport::open)).ok());
  EXPECT_TRUE(registry.add("fault_shm", FaultTransport::around(&ShmTransport::open, {})).ok());
  EXPECT_TRUE(registry.add("fault_tcp", FaultTransport::around(&TcpTransport::open, {})).ok());
  return registry;
}

}  // namespace

struct TransportNode::Running {
  boost::asio::io_context io;
  AsioLoop loop{io};
};

const TransportRegistry& test_registry() {
  static const TransportRegistry registry = make_registry();
  return registry;
}

TransportNode::TransportNode(NodeOptions options)
    : options_(std::move(options)),
      host_memory_(HostMemory::create("node", options_.region_bytes).value()),
      memory_(host_memory_.data(), options_.region_bytes),
      loop_(std::make_unique<Running>()) {
  Result<std::unique_ptr<Transport>> opened =
      options_.factory ? options_.factory(context())
                       : test_registry().open(options_.transport, context());
  EXPECT_TRUE(opened.ok()) << opened.status().to_string();
  transport_ = std::move(opened).value();
  EXPECT_TRUE(transport_->register_region(region()).ok());
}

TransportNode::~TransportNode() = default;

Region TransportNode::region() const {
  Region region;
  region.id = kRegion;
  region.base = memory_.data();
  region.bytes = memory_.size();
  if (!options_.anonymous) region.descriptor = host_memory_.descriptor();
  region.generations = options_.generations;
  return region;
}

TransportContext TransportNode::context() {
  TransportContext context;
  context.io = &loop_->io;
  context.loop = &loop_->loop;
  context.events = this;
  context.incarnation = options_.incarnation;
  context.token = options_.token;
  context.options = options_.options;
  return context;
}

bool TransportNode::poll() {
  loop_->io.restart();
  return loop_->io.poll() > 0;
}

void TransportNode::step() {
  loop_->io.restart();
  loop_->io.poll_one();
}

void TransportNode::poll_or_wait() {
  loop_->io.restart();
  loop_->io.run_one_for(kMoment);
}

std::unique_ptr<Endpoint> TransportNode::connect(TransportNode& target, Status* why) {
  std::unique_ptr<Endpoint> endpoint;
  Status failed;
  bool done = false;
  const std::vector<std::byte> address =
      target.transport().address_for(options_.incarnation).value();
  transport_->connect(target.incarnation(), "127.0.0.1", address,
                      [&](Result<std::unique_ptr<Endpoint>> connected) {
                        done = true;
                        failed = connected.status();
                        if (connected.ok()) endpoint = std::move(connected).value();
                      });
  EXPECT_FALSE(done) << "connect() may not call back from inside";
  EXPECT_TRUE(run_until({this, &target}, [&] { return done; }));
  if (why != nullptr) *why = failed;
  if (!endpoint) {
    EXPECT_TRUE(why != nullptr) << failed.to_string();
    return nullptr;
  }
  const std::vector<std::byte> key = target.transport().export_key(kRegion).value();
  EXPECT_TRUE(endpoint->import_key(kRegion, key).ok());
  return endpoint;
}

bool TransportNode::completed(uint64_t cookie) const {
  return std::any_of(completions.begin(), completions.end(),
                     [&](const Completion& one) { return one.cookie == cookie; });
}

Status TransportNode::completion_of(uint64_t cookie) const {
  const auto found = std::find_if(completions.begin(), completions.end(),
                                  [&](const Completion& one) { return one.cookie == cookie; });
  return found == completions.end() ? not_found("no such completion") : found->status;
}

void TransportNode::on_completion(uint64_t cookie, const Status& status) {
  EXPECT_FALSE(completed(cookie)) << "call " << cookie << " completed twice";
  completions.push_back({cookie, status});
}

void TransportNode::on_notified(uint64_t, Slot slot) {
  notified.push_back(slot);
}

void TransportNode::on_lost(uint64_t, Direction, const Status& why) {
  lost.push_back(why);
}

void TransportNode::on_fenced(uint64_t peer) {
  fenced.push_back(peer);
}

bool TransportNode::admits(uint64_t, Slot slot, Operation operation, uint32_t region,
                           uint64_t offset, uint64_t bytes) {
  return !admission || admission(slot, operation, region, offset, bytes);
}

bool run_until(std::initializer_list<TransportNode*> nodes,
               const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kHang;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    bool ran = false;
    for (TransportNode* node : nodes) ran |= node->poll();
    if (!ran && !condition()) (*nodes.begin())->poll_or_wait();
  }
  return true;
}

void settle(std::initializer_list<TransportNode*> nodes) {
  // A socket's bytes arrive within the sender's system call on loopback, so that rounds in which
  // nobody has anything to do mean that nothing is under way.
  for (int idle = 0; idle < 3;) {
    bool ran = false;
    for (TransportNode* node : nodes) ran |= node->poll();
    idle = ran ? 0 : idle + 1;
  }
}

}  // namespace mempool
