// SPDX-License-Identifier: Apache-2.0
// Owns the dialing and the queue pair of the raw peer.
#include "tests/transport/verbs/raw_verbs_peer.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "transport/asio_loop.h"

namespace mempool {
namespace {

constexpr uint32_t kDepth = 256;
constexpr std::chrono::seconds kHang{60};  // far more than anything here takes
constexpr std::chrono::milliseconds kMoment{1};

}  // namespace

std::optional<TestDevices> test_devices() {
  const char* const names = std::getenv("MEMPOOL_RDMA_DEVICES");
  if (names == nullptr) return std::nullopt;
  const std::string both = names;
  return TestDevices{both.substr(0, both.find(',')), both.substr(both.find(',') + 1)};
}

NodeOptions verbs_node(const std::string& device, uint64_t incarnation,
                       std::map<std::string, std::string> options) {
  NodeOptions node;
  node.transport = "verbs";
  node.incarnation = incarnation;
  node.options = std::move(options);
  node.options.emplace("devices", device);
  return node;
}

struct RawVerbsPeer::Running {
  boost::asio::io_context io;
  AsioLoop loop{io};
};

RawVerbsPeer::RawVerbsPeer(const std::string& device, uint64_t incarnation)
    : running_(std::make_unique<Running>()) {
  options_.devices = {device};
  device_ = std::move(open_devices(options_).value().front());
  completions_.reset(ibv_create_cq(device_->context(), kDepth, nullptr, nullptr, 0));
  queue_ = QueuePair::create(*device_, options_, completions_.get(), nullptr, {kDepth, 1}).value();
  const SetupTerms terms{"verbs", incarnation, "a token", options_.handshake_timeout, "127.0.0.1",
                         0};
  port_ = running_->loop
              .open_setup_port(terms, [](std::shared_ptr<SetupLink>, uint64_t) { return false; })
              .value();
}

RawVerbsPeer::~RawVerbsPeer() {
  if (link_) link_->close();
}

bool RawVerbsPeer::run_until(TransportNode& target, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kHang;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    running_->io.restart();
    running_->io.poll();
    target.poll_or_wait();
  }
  return true;
}

void RawVerbsPeer::dial(TransportNode& target) {
  bool done = false;
  port_->dial(target.incarnation(), "127.0.0.1", target.transport().address_for(1).value(),
              [&](Result<std::shared_ptr<SetupLink>> link) {
                done = true;
                ASSERT_TRUE(link.ok()) << link.status().to_string();
                link_ = *link;
              });
  ASSERT_TRUE(run_until(target, [&] { return done; }));
  link_->start(*this);
}

ConnectNote RawVerbsPeer::offer() {
  return {{{device_->address(), {queue_.address()}}}};
}

void RawVerbsPeer::connect(TransportNode& target) {
  dial(target);
  send(encode_note(offer()));
  ASSERT_TRUE(run_until(target, [&] { return !notes.empty(); }));
  const auto& accepted = std::get<AcceptedNote>(notes.front());
  const RailAddress& rail = accepted.rails.at(0);
  ASSERT_TRUE(queue_.connect(rail.port, rail.queues.at(0)).ok());
}

void RawVerbsPeer::notify(Immediate immediate) {
  ibv_send_wr request{};
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.send_flags = IBV_SEND_SIGNALED;
  request.imm_data = htonl(immediate.bits());
  ibv_send_wr* refused = nullptr;
  ASSERT_EQ(ibv_post_send(queue_.get(), &request, &refused), 0);
}

ibv_wc_status RawVerbsPeer::ended(TransportNode* target) {
  const auto end = std::chrono::steady_clock::now() + kHang;
  ibv_wc work{};
  while (ibv_poll_cq(completions_.get(), 1, &work) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      ADD_FAILURE() << "no completion";
      return IBV_WC_GENERAL_ERR;
    }
    if (target != nullptr) {
      target->poll_or_wait();
    } else {
      std::this_thread::sleep_for(kMoment);  // the device works without either side
    }
  }
  return work.status;
}

Status RawVerbsPeer::on_note(std::span<const std::byte> note) {
  Result<SetupNote> read = decode_note(note);
  if (read.ok()) notes.push_back(std::move(*read));
  return read.status();
}

}  // namespace mempool
