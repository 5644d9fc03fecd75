// SPDX-License-Identifier: Apache-2.0
// Owns the way from a frame to its bytes.
#include <flatbuffers/flatbuffers.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "agent/wire.h"
#include "agent/wire_generated.h"
#include "core/check.h"
#include "core/readable.h"

namespace mempool {
namespace {

namespace fb = flatbuffers;

static_assert(FLATBUFFERS_LITTLEENDIAN, "lists are copied as they lie in memory");

/// Builds one frame; a call for each kind. Thread: confined.
class Encoder {
 public:
  std::vector<std::byte> finish(const Frame& frame) {
    const Packed packed = std::visit(*this, frame);
    fb::Offset<fb::String> trace;
    if (!trace_.empty()) trace = text(readable(trace_, kTraceBytesMax));
    wire::FinishFrameBuffer(builder_, wire::CreateFrame(builder_, packed.kind, packed.body, trace));
    const uint32_t size = builder_.GetSize();
    MEMPOOL_CHECK(size <= kFrameBytesMax);
    std::vector<std::byte> bytes;
    bytes.reserve(sizeof(size) + size);
    append(bytes, &size, sizeof(size));
    append(bytes, builder_.GetBufferPointer(), size);
    return bytes;
  }

  struct Packed {
    wire::Body kind;
    fb::Offset<void> body;
  };

  Packed operator()(const Hello& hello) {
    const auto nonce = std::bit_cast<wire::Nonce>(hello.nonce);
    return pack(wire::CreateHello(builder_, hello.version_oldest, hello.version, hello.features,
                                  text(hello.name), hello.incarnation, &nonce));
  }

  Packed operator()(const HelloReply& reply) {
    const auto nonce = std::bit_cast<wire::Nonce>(reply.nonce);
    const auto proof = std::bit_cast<wire::Proof>(reply.proof);
    return pack(wire::CreateHelloReply(builder_, reply.version, reply.features, text(reply.name),
                                       reply.incarnation, &nonce, &proof));
  }

  Packed operator()(const Introduction& introduction) {
    const auto proof = std::bit_cast<wire::Proof>(introduction.proof);
    const auto model = std::bit_cast<wire::ContentId>(introduction.model);
    return pack(wire::CreateIntroduction(builder_, &proof, &model));
  }

  Packed operator()(const Welcome& welcome) {
    const auto model = std::bit_cast<wire::ContentId>(welcome.model);
    std::vector<fb::Offset<wire::Segment>> segments;
    for (const PlanSegment& segment : welcome.segments) segments.push_back(add(segment));
    std::vector<fb::Offset<wire::TransportOffer>> transports;
    for (const TransportOffer& offer : welcome.transports) transports.push_back(add(offer));
    std::vector<fb::Offset<wire::ClosedTransport>> closed;
    for (const ClosedTransport& each : welcome.closed) closed.push_back(add(each));
    return pack(wire::CreateWelcome(builder_, &model, builder_.CreateVector(segments),
                                    builder_.CreateVector(transports),
                                    closed.empty() ? 0 : builder_.CreateVector(closed)));
  }

  Packed operator()(const Refusal& refusal) {
    return pack(wire::CreateRefusal(builder_, add(refusal.status)));
  }

  Packed operator()(const Message& message) { return std::visit(*this, message); }

  Packed operator()(const Offer& offer) {
    trace_ = offer.trace;
    const auto content = std::bit_cast<wire::ContentId>(offer.content.id);
    const auto model = std::bit_cast<wire::ContentId>(offer.content.model);
    return pack(wire::CreateOffer(builder_, offer.number, offer.request_id, offer.deadline_ms,
                                  static_cast<uint8_t>(offer.medium), &content, &model,
                                  builder_.CreateVector(offer.tokens), raw(offer.user_data),
                                  offer.fetch, offer.reserve, add_some(offer.places),
                                  offer.content.tenant));
  }

  Packed operator()(const OfferReply& reply) {
    const auto slot = std::bit_cast<wire::Slot>(reply.slot);
    return pack(wire::CreateOfferReply(builder_, reply.number, add(reply.status), &slot,
                                       add(reply.matched), add(reply.reserved), add(reply.sums)));
  }

  Packed operator()(const Commit& commit) {
    return pack(
        wire::CreateCommit(builder_, commit.number, commit.notifications, add(commit.sums)));
  }

  Packed operator()(const CommitReply& reply) {
    return pack(
        wire::CreateCommitReply(builder_, reply.number, add(reply.status), add(reply.serving)));
  }

  Packed operator()(const Cancel& cancel) {
    return pack(wire::CreateCancel(builder_, cancel.number, add_some(cancel.release)));
  }
  Packed operator()(const CancelReply& reply) {
    return pack(wire::CreateCancelReply(builder_, reply.number));
  }
  Packed operator()(const StopRequest& request) {
    return pack(wire::CreateStopRequest(builder_, request.number));
  }
  Packed operator()(const Heartbeat& heartbeat) {
    return pack(wire::CreateHeartbeat(builder_, heartbeat.progress));
  }
  Packed operator()(const Goodbye&) { return pack(wire::CreateGoodbye(builder_)); }

 private:
  template <typename Table>
  static Packed pack(fb::Offset<Table> table) {
    return {wire::BodyTraits<Table>::enum_value, table.Union()};
  }

  static void append(std::vector<std::byte>& bytes, const void* from, size_t size) {
    const auto* first = static_cast<const std::byte*>(from);
    bytes.insert(bytes.end(), first, first + size);
  }

  fb::Offset<fb::String> text(std::string_view text) { return builder_.CreateString(text); }

  fb::Offset<fb::Vector<uint8_t>> raw(const std::vector<std::byte>& bytes) {
    return builder_.CreateVector(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }

  fb::Offset<fb::Vector<const wire::BlockAddress*>> add(const std::vector<BlockAddress>& list) {
    static_assert(sizeof(wire::BlockAddress) == sizeof(BlockAddress));
    return builder_.CreateVectorOfStructs(reinterpret_cast<const wire::BlockAddress*>(list.data()),
                                          list.size());
  }

  // Of what most messages do not have, nothing travels.
  fb::Offset<fb::Vector<const wire::BlockAddress*>> add_some(
      const std::vector<BlockAddress>& list) {
    return list.empty() ? 0 : add(list);
  }

  fb::Offset<fb::Vector<const wire::SealedSum*>> add(const std::vector<SealedSum>& sums) {
    const auto put = [&](size_t i, wire::SealedSum* out) {
      *out = wire::SealedSum(sums[i].position, sums[i].checksum);
    };
    return builder_.CreateVectorOfStructs<wire::SealedSum>(sums.size(), put);
  }

  fb::Offset<wire::Status> add(const Status& status) {
    return wire::CreateStatus(builder_, static_cast<uint8_t>(status.code()),
                              text(readable(status.message(), kStatusBytesMax)),
                              status.retry_after_ms());
  }

  fb::Offset<wire::Segment> add(const PlanSegment& segment) {
    const BlockLayout& layout = segment.layout;
    const auto group = wire::CreateLayoutGroup(
        builder_, layout.layers, layout.parts, layout.heads, layout.tokens, layout.first_layer,
        layout.first_head, static_cast<uint8_t>(layout.order), layout.vector_bytes,
        layout.block_stride, layout.layer_stride, layout.part_stride, layout.replicated);
    return wire::CreateSegment(builder_, segment.region, segment.first_block, segment.blocks,
                               builder_.CreateVector(&group, 1), segment.shard);
  }

  fb::Offset<wire::TransportOffer> add(const TransportOffer& offer) {
    std::vector<fb::Offset<wire::RegionKey>> keys;
    for (const TransportOffer::Key& key : offer.keys) {
      keys.push_back(wire::CreateRegionKey(builder_, key.region, raw(key.key)));
    }
    return wire::CreateTransportOffer(builder_, text(offer.name), raw(offer.address),
                                      builder_.CreateVector(keys));
  }

  fb::Offset<wire::ClosedTransport> add(const ClosedTransport& closed) {
    return wire::CreateClosedTransport(builder_, text(closed.name),
                                       text(readable(closed.why, kStatusBytesMax)));
  }

  fb::FlatBufferBuilder builder_;
  std::string_view trace_;  // of the frame's envelope
};

}  // namespace

std::vector<std::byte> encode(const Frame& frame) {
  return Encoder().finish(frame);
}

}  // namespace mempool
