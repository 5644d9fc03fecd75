// SPDX-License-Identifier: Apache-2.0
// Owns the wrapper that hands every call of a transport and its endpoints on, so that a decorator
// overrides only what it changes.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "transport/transport.h"

namespace mempool {

/// Thread: as the endpoint inside.
class ForwardingEndpoint : public Endpoint {
 public:
  explicit ForwardingEndpoint(std::unique_ptr<Endpoint> inner) : inner_(std::move(inner)) {}

  Status import_key(uint32_t remote_region, std::span<const std::byte> key) override {
    return inner_->import_key(remote_region, key);
  }
  Status post(const Call& call) override { return inner_->post(call); }
  Status notify(Slot slot, uint64_t cookie) override { return inner_->notify(slot, cookie); }
  void stop(Slot slot) override { inner_->stop(slot); }
  uint32_t lanes() const override { return inner_->lanes(); }
  CallCounts counts() const override { return inner_->counts(); }
  std::string route() const override { return inner_->route(); }
  void close() override { inner_->close(); }

 protected:
  Endpoint& inner() { return *inner_; }
  const Endpoint& inner() const { return *inner_; }

 private:
  std::unique_ptr<Endpoint> inner_;
};

/// Thread: as the transport inside.
class ForwardingTransport : public Transport {
 public:
  const Capabilities& capabilities() const override { return inner_->capabilities(); }
  Status register_region(const Region& region) override { return inner_->register_region(region); }
  Status deregister_region(uint32_t region) override { return inner_->deregister_region(region); }
  Result<std::vector<std::byte>> export_key(uint32_t region) const override {
    return inner_->export_key(region);
  }
  Result<std::vector<std::byte>> address_for(uint64_t peer) override {
    return inner_->address_for(peer);
  }
  void connect(uint64_t peer, const std::string& host, std::span<const std::byte> address,
               ConnectHandler handler) override {
    inner_->connect(peer, host, address, [this, handler = std::move(handler)](auto connected) {
      if (!connected.ok()) return handler(connected.status());
      handler(wrap(std::move(connected).value()));
    });
  }
  Status open_slot(uint64_t peer, Slot slot) override { return inner_->open_slot(peer, slot); }
  void close_slot(uint64_t peer, Slot slot) override { inner_->close_slot(peer, slot); }
  void fence(uint64_t peer) override { inner_->fence(peer); }
  CallCounts counts() const override { return inner_->counts(); }

 protected:
  explicit ForwardingTransport(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}
  /// Decorate an endpoint that has connected.
  virtual std::unique_ptr<Endpoint> wrap(std::unique_ptr<Endpoint> endpoint) = 0;
  Transport& inner() { return *inner_; }
  const Transport& inner() const { return *inner_; }
  void set_inner(std::unique_ptr<Transport> inner) { inner_ = std::move(inner); }

 private:
  std::unique_ptr<Transport> inner_;
};

}  // namespace mempool
