// SPDX-License-Identifier: Apache-2.0
// Owns the opening of a transport and its region.
#include "perf/raw_side.h"

#include <utility>

#include <fmt/format.h>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "core/check.h"
#include "perf/channel.h"
#include "transport/asio_loop.h"
#include "transport/transport_registry.h"

namespace mempool {

RawSide::RawSide()
    : io_(std::make_unique<boost::asio::io_context>(1)), loop_(std::make_unique<AsioLoop>(*io_)) {}

Result<std::unique_ptr<RawSide>> RawSide::open(const TransferCase& measured,
                                               const ContentSpec& content,
                                               const Placement& placement, const TransferSite& site,
                                               uint32_t blocks, uint64_t incarnation) {
  std::unique_ptr<RawSide> side(new RawSide());
  side->segment_.blocks = blocks;
  MEMPOOL_ASSIGN_OR_RETURN(side->segment_.layout, make_layout(content, placement, blocks));
  MEMPOOL_ASSIGN_OR_RETURN(side->memory_,
                           HostMemory::create("perf", side->segment_.layout.block_bytes * blocks));
  TransportRegistry registry;
  register_transports(registry);
  TransportContext context;
  context.io = side->io_.get();
  context.loop = side->loop_.get();
  context.events = side.get();
  context.incarnation = incarnation;
  context.bind_host = site.host;
  context.token = site.token;
  const std::string prefix = measured.transport + ".";
  for (const auto& [key, value] : options_at(site, measured)) {
    context.options[key.substr(prefix.size())] = value;
  }
  Result<std::unique_ptr<Transport>> transport = registry.open(measured.transport, context);
  if (!transport.ok()) return transport.status().with_context(measured.transport);
  side->transport_ = std::move(*transport);
  if (!side->transport_->capabilities().read) {
    return unsupported(
        fmt::format("transport '{}' cannot read; measure --op write", measured.transport));
  }
  MEMPOOL_RETURN_IF_ERROR(
      side->transport_->register_region({0, MemoryKind::kHost, false, side->memory_.data(),
                                         side->memory_.size(), side->memory_.descriptor()}));
  return side;
}

RawSide::~RawSide() {
  if (!thread_.joinable()) return;
  io_->stop();
  thread_.join();
}

std::span<std::byte> RawSide::piece(uint32_t block, uint32_t piece) const {
  const BlockLayout& layout = segment_.layout;
  return {memory_.data() + layout.piece_offset(block, piece / layout.parts, piece % layout.parts),
          layout.piece_bytes};
}

void RawSide::wait_event() {
  if (io_->run_one_for(kSilenceMax) == 1 || !failure_.ok()) return;
  failure_ = unavailable(fmt::format("nothing moved for {} s", kSilenceMax.count()));
}

void RawSide::serve() {
  thread_ = std::thread([this] {
    const auto work = boost::asio::make_work_guard(*io_);
    io_->run();
  });
}

void RawSide::on_completion(uint64_t, const Status& status) {
  ++completed_;
  if (failure_.ok()) failure_ = status;
}

void RawSide::on_lost(uint64_t, Direction, const Status& why) {
  if (failure_.ok()) failure_ = why;
}

}  // namespace mempool
