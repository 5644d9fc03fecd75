// SPDX-License-Identifier: Apache-2.0
// Owns the connecting, accepting and fencing of the shm backend.
#include "transport/shm/shm_transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/log.h"
#include "core/random.h"
#include "transport/little_endian.h"

namespace mempool {
namespace {

constexpr size_t kAddressBytes = 2 * sizeof(uint64_t) + sizeof(Proof);

std::string name_of(uint64_t incarnation, uint64_t word) {
  return fmt::format("mempool-shm-{:016x}-{:016x}", incarnation, word);
}

Proof random_secret() {
  const Nonce halves[] = {make_nonce(), make_nonce()};
  Proof secret;
  static_assert(sizeof halves == sizeof secret);
  std::memcpy(secret.data(), halves, sizeof secret);
  return secret;
}

// Take one owner out of its list, to go at the end of the caller's scope.
template <typename Owner>
std::unique_ptr<Owner> take(std::vector<std::unique_ptr<Owner>>& owners, const Owner* which) {
  const auto found =
      std::ranges::find_if(owners, [&](const auto& one) { return one.get() == which; });
  MEMPOOL_CHECK(found != owners.end());
  std::unique_ptr<Owner> taken = std::move(*found);
  owners.erase(found);
  return taken;
}

}  // namespace

/// A connect under way. Thread: confined.
class ShmTransport::Dialing final : public ShmLinkOwner {
 public:
  Dialing(ShmTransport& transport, uint64_t peer, ConnectHandler handler)
      : transport_(transport), peer_(peer), handler_(std::move(handler)) {}

  Status begin(Descriptor socket, const Proof& ticket) {
    MEMPOOL_ASSIGN_OR_RETURN(
        link_, ShmLink::dial(transport_.shared_, std::move(socket), peer_, ticket, *this));
    return {};
  }

  void on_open() override {
    const std::unique_ptr<Dialing> self = take(transport_.dialing_, this);
    handler_(std::unique_ptr<Endpoint>(std::make_unique<ShmEndpoint>(
        transport_.shared_, transport_.endpoints_, std::move(link_))));
  }
  Status on_frame(const ShmHeader&, std::span<const std::byte>) override {
    return internal_error("a frame before the connection is open");
  }
  void on_closed(const Status& why) override {
    const std::unique_ptr<Dialing> self = take(transport_.dialing_, this);
    handler_(why.with_context(fmt::format("connect to peer {:x}", peer_)));
  }

 private:
  ShmTransport& transport_;
  const uint64_t peer_;
  const ConnectHandler handler_;
  std::unique_ptr<ShmLink> link_;
};

/// An accepted connection that is not open yet. Thread: confined.
class ShmTransport::Arriving final : public ShmLinkOwner {
 public:
  explicit Arriving(ShmTransport& transport) : transport_(transport) {}

  uint64_t peer() const { return link_->peer(); }
  Status begin(Descriptor socket) {
    MEMPOOL_ASSIGN_OR_RETURN(link_, ShmLink::accept(transport_.shared_, std::move(socket), *this));
    return {};
  }

  void on_open() override {
    const std::unique_ptr<Arriving> self = take(transport_.arriving_, this);
    const uint64_t peer = link_->peer();
    if (transport_.target_.adopt(std::move(link_))) return;
    log().warning("shm: peer {:x} has as many connections as one may have", peer);
  }
  Status on_frame(const ShmHeader&, std::span<const std::byte>) override {
    return internal_error("a frame before the connection is open");
  }
  void on_closed(const Status& why) override {
    const std::unique_ptr<Arriving> self = take(transport_.arriving_, this);
    log().warning("shm: refused a connection: {}", why.message());
  }

 private:
  ShmTransport& transport_;
  std::unique_ptr<ShmLink> link_;
};

ShmTransport::ShmTransport(const TransportContext& context, const ShmOptions& options,
                           ShmSourceWords words)
    : shared_{*context.io,
              context.incarnation,
              context.token,
              options,
              random_secret(),
              std::make_shared<EventQueue>(*context.loop, *context.events),
              {},
              {},
              std::move(words),
              ShmSlots(shared_.events->slots()),
              ShmCopier(options.copy_threads),
              {},
              {}},
      name_word_(random_word()),
      target_(shared_, *context.events) {}

Result<std::unique_ptr<Transport>> ShmTransport::open(const TransportContext& context) {
  MEMPOOL_ASSIGN_OR_RETURN(const ShmOptions options, ShmOptions::parse(context.options));
  MEMPOOL_ASSIGN_OR_RETURN(ShmSourceWords words, ShmSourceWords::create());
  std::unique_ptr<ShmTransport> transport(new ShmTransport(context, options, std::move(words)));
  MEMPOOL_ASSIGN_OR_RETURN(
      transport->listener_,
      ShmListener::open(
          *context.io, name_of(context.incarnation, transport->name_word_),
          [self = transport.get()](Descriptor socket) { self->arrive(std::move(socket)); }));
  return std::unique_ptr<Transport>(std::move(transport));
}

ShmTransport::~ShmTransport() {
  alive_.reset();
  shared_.events->close();
  if (listener_) listener_->close();
}

void ShmTransport::arrive(Descriptor socket) {
  if (arriving_.size() >= kShmArrivingMax) return;
  arriving_.push_back(std::make_unique<Arriving>(*this));
  const Status begun = arriving_.back()->begin(std::move(socket));
  if (begun.ok()) return;
  log().warning("shm: refused a connection: {}", begun.message());
  arriving_.pop_back();
}

Status ShmTransport::register_region(const Region& region) {
  MEMPOOL_RETURN_IF_ERROR(shared_.regions.add(region, capabilities().memory_kinds));
  if (region.descriptor < 0) return {};
  const Result<size_t> added = shared_.exports.add(region);
  if (!added.ok()) {
    (void)shared_.regions.remove(region.id);  // it was added above
    return added.status();
  }
  for (const ShmExport& one : shared_.exports.all().last(*added)) {
    for (ShmLink* link : shared_.links) link->give(one);
  }
  return {};
}

Status ShmTransport::deregister_region(uint32_t region) {
  if (std::ranges::any_of(endpoints_.open,
                          [&](const ShmEndpoint* endpoint) { return endpoint->uses(region); })) {
    return resource_exhausted(fmt::format("region {} is in use by a transfer under way", region));
  }
  MEMPOOL_RETURN_IF_ERROR(shared_.regions.remove(region));
  for (const uint64_t number : shared_.exports.remove(region)) {
    for (ShmLink* link : shared_.links) link->take_back(number);
  }
  return {};
}

Result<std::vector<std::byte>> ShmTransport::export_key(uint32_t region) const {
  const Region* found = shared_.regions.find(region);
  if (found == nullptr) return not_found(fmt::format("region {} is not registered", region));
  return encode_region_key({shared_.incarnation, region, found->bytes});
}

Result<std::vector<std::byte>> ShmTransport::address_for(uint64_t peer) {
  std::vector<std::byte> address(kAddressBytes);
  LittleEndianWriter(address.data())
      .put(shared_.incarnation)
      .put(name_word_)
      .put(shared_.ticket_of(peer));
  return address;
}

void ShmTransport::connect(uint64_t peer, const std::string&, std::span<const std::byte> address,
                           ConnectHandler handler) {
  run_later(shared_.io,
            [this, alive = std::weak_ptr(alive_), peer,
             bytes = std::vector(address.begin(), address.end()), handler = std::move(handler)] {
              if (!alive.expired()) dial(peer, bytes, handler);
            });
}

void ShmTransport::dial(uint64_t peer, std::span<const std::byte> address, ConnectHandler handler) {
  if (address.size() != kAddressBytes) {
    return handler(invalid_argument(fmt::format("shm address of peer {:x}: {} bytes, give {}", peer,
                                                address.size(), kAddressBytes)));
  }
  LittleEndianReader reader(address.data());
  const auto incarnation = reader.get<uint64_t>();
  const auto word = reader.get<uint64_t>();
  Proof ticket;
  reader.get(ticket);
  if (incarnation != peer) {
    return handler(stale(fmt::format(
        "the address is of incarnation {:x}, not {:x}; ask the peer anew", incarnation, peer)));
  }
  Result<Descriptor> socket = dial_shm(name_of(incarnation, word));
  Status status = socket.status();
  dialing_.push_back(std::make_unique<Dialing>(*this, peer, handler));
  if (status.ok()) status = dialing_.back()->begin(std::move(socket).value(), ticket);
  if (!status.ok()) dialing_.back()->on_closed(status);
}

void ShmTransport::fence(uint64_t peer) {
  target_.drop(peer);
  std::erase_if(arriving_, [&](const auto& one) { return one->peer() == peer; });
  for (ShmEndpoint* endpoint : endpoints_.open) {
    if (endpoint->peer() == peer) endpoint->close();
  }
  // Every byte of the peer's was copied by this thread, from lists that came over those sockets.
  shared_.events->fenced(peer);
}

CallCounts ShmTransport::counts() const {
  CallCounts counts = endpoints_.ended;
  counts += target_.counts();
  for (const ShmEndpoint* endpoint : endpoints_.open) counts += endpoint->counts();
  return counts;
}

}  // namespace mempool
