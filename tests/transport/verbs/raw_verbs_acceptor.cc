// SPDX-License-Identifier: Apache-2.0
// Owns the port and the queue pairs of the raw acceptor.
#include "tests/transport/verbs/raw_verbs_acceptor.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>

#include "transport/asio_loop.h"
#include "transport/verbs/remote_key.h"

namespace mempool {
namespace {

constexpr uint32_t kDepth = 16;
constexpr std::chrono::seconds kHang{60};  // far more than anything here takes

}  // namespace

struct RawVerbsAcceptor::Running {
  boost::asio::io_context io;
  AsioLoop loop{io};
};

RawVerbsAcceptor::RawVerbsAcceptor(const std::string& devices, uint64_t incarnation,
                                   uint64_t region_bytes)
    : memory(region_bytes), incarnation_(incarnation), running_(std::make_unique<Running>()) {
  options_ = VerbsOptions::parse({{"devices", devices}}).value();
  devices_ = open_devices(options_).value();
  for (const auto& device : devices_) {
    completions_.emplace_back(ibv_create_cq(device->context(), kDepth, nullptr, nullptr, 0));
    memories_.push_back(device->register_memory(memory.data(), memory.size(), -1).value());
  }
  const SetupTerms terms{"verbs", incarnation_, "a token", options_.handshake_timeout, "127.0.0.1",
                         0};
  const auto arrived = [this](std::shared_ptr<SetupLink> link, uint64_t) {
    link_ = std::move(link);
    link_->start(*this);
    return true;
  };
  port_ = running_->loop.open_setup_port(terms, arrived).value();
}

RawVerbsAcceptor::~RawVerbsAcceptor() {
  if (link_) link_->close();
}

void RawVerbsAcceptor::dialed_by(TransportNode& source) {
  source_ = &source;
  source.transport().connect(incarnation_, "127.0.0.1", port_->address().value(),
                             [this](Result<std::unique_ptr<Endpoint>> made) {
                               connected = made.status();
                               if (made.ok()) endpoint = std::move(made).value();
                             });
  ASSERT_TRUE(run_until([this] { return has<ConnectNote>(); }));
}

std::vector<RailAddress> RawVerbsAcceptor::accept() {
  const auto& offer = std::get<ConnectNote>(notes.front());
  std::vector<RailAddress> rails;
  for (size_t i = 0; i < devices_.size(); ++i) {
    QueuePair queue =
        QueuePair::create(*devices_[i], options_, completions_[i].get(), nullptr, {kDepth, 1})
            .value();
    EXPECT_TRUE(queue.connect(offer.rails.at(i).port, offer.rails.at(i).queues.at(0)).ok());
    rails.push_back({devices_[i]->address(), {queue.address()}});
    queues_.push_back(std::move(queue));
  }
  return rails;
}

std::vector<std::byte> RawVerbsAcceptor::key() const {
  RemoteRegion region{memory.size(), reinterpret_cast<uint64_t>(memory.data()), {}};
  for (const MemoryHandle& one : memories_) region.keys.push_back(one->rkey);
  return encode_remote_key(incarnation_, TransportNode::kRegion, region);
}

bool RawVerbsAcceptor::run_until(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kHang;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    running_->io.restart();
    running_->io.poll();
    source_->poll_or_wait();
  }
  return true;
}

Status RawVerbsAcceptor::on_note(std::span<const std::byte> note) {
  Result<SetupNote> read = decode_note(note);
  if (read.ok()) notes.push_back(std::move(*read));
  return read.status();
}

}  // namespace mempool
