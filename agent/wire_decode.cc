// SPDX-License-Identifier: Apache-2.0
// Owns the way from bytes that anyone may have sent to a frame: verified as a whole, then field by
// field against its bounds.
#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>

#include "agent/wire.h"
#include "agent/wire_generated.h"
#include "core/check.h"

namespace mempool {
namespace {

namespace fb = flatbuffers;

static_assert(FLATBUFFERS_LITTLEENDIAN, "lists are copied as they lie in memory");
static_assert(offsetof(SealedSum, checksum) == 8 && sizeof(wire::SealedSum) == sizeof(SealedSum));

// A frame that nests or repeats tables further than the fullest Welcome is not worth verifying.
constexpr fb::uoffset_t kDepthMax = 4;  // frame, welcome, segment, group
constexpr fb::uoffset_t kTablesMax = 2 + 2 * kSegmentsMax + kTransportsMax * (2 + kSegmentsMax);

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

/// Takes fields and keeps the first complaint; what it gives after one is empty. A function for
/// each table. Thread: confined.
class Decoder {
 public:
  const Status& status() const { return status_; }

  Frame frame(const wire::Frame& frame) {
    const std::string trace = text("Frame.trace", frame.trace(), kTraceBytesMax);
    switch (frame.body_type()) {
      case wire::Body::Hello:
        return read(*frame.body_as_Hello());
      case wire::Body::HelloReply:
        return read(*frame.body_as_HelloReply());
      case wire::Body::Introduction:
        return read(*frame.body_as_Introduction());
      case wire::Body::Welcome:
        return read(*frame.body_as_Welcome());
      case wire::Body::Refusal:
        return read(*frame.body_as_Refusal());
      case wire::Body::Offer:
        return Message(read(*frame.body_as_Offer(), trace));
      case wire::Body::OfferReply:
        return Message(read(*frame.body_as_OfferReply()));
      case wire::Body::Commit:
        return Message(read(*frame.body_as_Commit()));
      case wire::Body::CommitReply:
        return Message(read(*frame.body_as_CommitReply()));
      case wire::Body::Cancel:
        return Message(read(*frame.body_as_Cancel()));
      case wire::Body::CancelReply:
        return Message(
            CancelReply{number("CancelReply.number", frame.body_as_CancelReply()->number())});
      case wire::Body::StopRequest:
        return Message(
            StopRequest{number("StopRequest.number", frame.body_as_StopRequest()->number())});
      case wire::Body::Heartbeat:
        return Message(Heartbeat{frame.body_as_Heartbeat()->progress()});
      case wire::Body::Goodbye:
        return Message(Goodbye{});
      case wire::Body::NONE:
        break;
    }
    fail(fmt::format("a frame of kind {}, which this version does not know",
                     static_cast<unsigned>(frame.body_type())));
    return {};
  }

 private:
  // ---- handshake ----

  Hello read(const wire::Hello& hello) {
    demand(hello.version_oldest() <= hello.version(), "Hello.version_oldest is above its version");
    return {.version_oldest = hello.version_oldest(),
            .version = hello.version(),
            .features = hello.features(),
            .name = name("Hello.name", *hello.name()),
            .incarnation = number("Hello.incarnation", hello.incarnation()),
            .nonce = std::bit_cast<Nonce>(*hello.nonce())};
  }

  HelloReply read(const wire::HelloReply& reply) {
    return {.version = reply.version(),
            .features = reply.features(),
            .name = name("HelloReply.name", *reply.name()),
            .incarnation = number("HelloReply.incarnation", reply.incarnation()),
            .nonce = std::bit_cast<Nonce>(*reply.nonce()),
            .proof = std::bit_cast<Proof>(*reply.proof())};
  }

  Introduction read(const wire::Introduction& introduction) {
    return {.proof = std::bit_cast<Proof>(*introduction.proof()),
            .model = std::bit_cast<ContentId>(*introduction.model())};
  }

  Welcome read(const wire::Welcome& welcome) {
    Welcome out;
    out.model = std::bit_cast<ContentId>(*welcome.model());
    if (bounded("Welcome.segments", welcome.segments()->size(), kSegmentsMax)) {
      for (const wire::Segment* segment : *welcome.segments()) {
        out.segments.push_back(read(*segment));
      }
    }
    if (bounded("Welcome.transports", welcome.transports()->size(), kTransportsMax)) {
      for (const wire::TransportOffer* offer : *welcome.transports()) {
        out.transports.push_back(read(*offer));
      }
    }
    if (welcome.closed() != nullptr &&
        bounded("Welcome.closed", welcome.closed()->size(), kTransportsMax)) {
      for (const wire::ClosedTransport* closed : *welcome.closed()) {
        out.closed.push_back({name("ClosedTransport.name", *closed->name()),
                              text("ClosedTransport.why", closed->why(), kStatusBytesMax)});
      }
    }
    return out;
  }

  Refusal read(const wire::Refusal& refusal) {
    Refusal out{read("Refusal.status", *refusal.status())};
    demand(!out.status.ok(), "Refusal.status is OK");
    return out;
  }

  PlanSegment read(const wire::Segment& segment) {
    PlanSegment out{.region = segment.region(),
                    .first_block = segment.first_block(),
                    .blocks = segment.blocks(),
                    .shard = segment.shard()};
    demand(out.shard < kShardsMax, "Segment.shard is out of bounds");
    demand(out.blocks != 0 && uint64_t{out.first_block} + out.blocks <= kBlocks,
           "Segment.blocks is 0, or past the last block index");
    if (segment.groups()->size() != 1) {
      keep(unsupported(fmt::format("Segment.groups has {} groups of layers; this version maps one",
                                   segment.groups()->size())));
      return out;
    }
    out.layout = read(*segment.groups()->Get(0));
    if (!status_.ok()) return out;
    demand(fits(out), "Segment: its blocks do not lie within 63 bits of address");
    return out;
  }

  BlockLayout read(const wire::LayoutGroup& group) {
    BlockLayout out;
    out.layers = dimension("LayoutGroup.layers", group.layers());
    out.parts = group.parts();
    demand(out.parts == 1 || out.parts == 2, "LayoutGroup.parts is neither 1 nor 2");
    out.heads = dimension("LayoutGroup.heads", group.heads());
    out.tokens = dimension("LayoutGroup.tokens", group.tokens());
    out.first_layer = group.first_layer();
    out.first_head = group.first_head();
    demand(out.first_layer <= kLayoutDimensionMax, "LayoutGroup.first_layer is out of bounds");
    demand(out.first_head <= kLayoutDimensionMax, "LayoutGroup.first_head is out of bounds");
    out.replicated = group.replicated();
    out.order = one_of("LayoutGroup.order", group.order(), TokenOrder::kHeadToken);
    out.vector_bytes = group.vector_bytes();
    demand(out.vector_bytes >= 1 && out.vector_bytes <= kVectorBytesMax,
           "LayoutGroup.vector_bytes is out of bounds");
    out.block_stride = group.block_stride();
    out.layer_stride = group.layer_stride();
    out.part_stride = group.part_stride();
    if (!status_.ok()) return {};
    out.piece_bytes = out.vector_bytes * out.heads * out.tokens;  // at most 2^52
    __builtin_mul_overflow(out.piece_bytes, uint64_t{out.layers} * out.parts, &out.block_bytes);
    return out;
  }

  /// Requires: a layout whose dimensions are within their bounds.
  static bool fits(const PlanSegment& segment) {
    using Wide = unsigned __int128;
    const BlockLayout& layout = segment.layout;
    const Wide bytes = Wide{layout.piece_bytes} * layout.layers * layout.parts * segment.blocks;
    const Wide end = Wide{layout.block_stride} * (segment.blocks - 1) +
                     Wide{layout.layer_stride} * (layout.layers - 1) +
                     Wide{layout.part_stride} * (layout.parts - 1) + layout.piece_bytes;
    constexpr Wide kMost = std::numeric_limits<int64_t>::max();
    return bytes <= kMost && end <= kMost;
  }

  TransportOffer read(const wire::TransportOffer& offer) {
    TransportOffer out;
    out.name = name("TransportOffer.name", *offer.name());
    out.address =
        list<std::byte>("TransportOffer.address", *offer.address(), kTransportAddressBytesMax);
    if (!bounded("TransportOffer.keys", offer.keys()->size(), kSegmentsMax)) return out;
    for (const wire::RegionKey* key : *offer.keys()) {
      out.keys.push_back(
          {key->region(), list<std::byte>("RegionKey.key", *key->key(), kRegionKeyBytesMax)});
    }
    return out;
  }

  // ---- messages of a session ----

  Offer read(const wire::Offer& offer, const std::string& trace) {
    Offer out = {
        .number = number("Offer.number", offer.number()),
        .request_id = offer.request_id(),
        .deadline_ms = offer.deadline_ms(),
        .medium = one_of("Offer.medium", offer.medium(), Medium::kHost),
        .content = {std::bit_cast<ContentId>(*offer.content()),
                    std::bit_cast<ContentId>(*offer.model()), offer.tenant()},
        .tokens = list<TokenId>("Offer.tokens", *offer.tokens(), kOfferTokensMax),
        .user_data = list<std::byte>("Offer.user_data", *offer.user_data(), kUserDataBytesMax),
        .fetch = offer.fetch(),
        .reserve = offer.reserve(),
        .places = addresses("Offer.places", offer.places()),
        .trace = trace};
    bounded("Offer.reserve", out.reserve, kOfferBlocksMax);
    const bool prompted = !out.tokens.empty() || out.fetch;
    demand(prompted + (out.reserve > 0) + !out.places.empty() <= 1,
           "Offer asks for more than one thing");
    return out;
  }

  OfferReply read(const wire::OfferReply& reply) {
    OfferReply out;
    out.number = number("OfferReply.number", reply.number());
    out.status = read("OfferReply.status", *reply.status());
    out.slot = std::bit_cast<Slot>(*reply.slot());
    out.matched = addresses("OfferReply.matched", reply.matched());
    out.reserved = addresses("OfferReply.reserved", reply.reserved());
    if (reply.sums() != nullptr) {
      out.sums = list<SealedSum>("OfferReply.sums", *reply.sums(), kFetchBlocksMax);
    }
    return out;
  }

  Commit read(const wire::Commit& commit) {
    return {.number = number("Commit.number", commit.number()),
            .notifications = commit.notifications(),
            .sums = list<SealedSum>("Commit.sums", *commit.sums(), kOfferBlocksMax)};
  }

  CommitReply read(const wire::CommitReply& reply) {
    return {.number = number("CommitReply.number", reply.number()),
            .status = read("CommitReply.status", *reply.status()),
            .serving = addresses("CommitReply.serving", reply.serving())};
  }

  Cancel read(const wire::Cancel& cancel) {
    return {.number = number("Cancel.number", cancel.number()),
            .release = addresses("Cancel.release", cancel.release())};
  }

  // ---- fields ----

  Status read(std::string_view field, const wire::Status& status) {
    const StatusCode code = one_of(field, status.code(), StatusCode::kInternal);
    return Status(code, text(field, status.message(), kStatusBytesMax), status.retry_after_ms());
  }

  std::vector<BlockAddress> addresses(std::string_view field,
                                      const fb::Vector<const wire::BlockAddress*>* from) {
    if (from == nullptr) return {};
    auto out = list<BlockAddress>(field, *from, kOfferBlocksMax);
    for (const BlockAddress& address : out) {
      if (address.medium() > Medium::kHost) {
        fail(fmt::format("{} names {}", field, to_string(address.medium())));
        break;
      }
    }
    return out;
  }

  /// Copies the bytes, because the verifier does not look at the alignment of a list's elements.
  template <typename Own, typename Element>
  std::vector<Own> list(std::string_view field, const fb::Vector<Element>& from, size_t most) {
    if (!bounded(field, from.size(), most)) return {};
    std::vector<Own> out(from.size());
    if (!out.empty()) std::memcpy(out.data(), from.Data(), out.size() * sizeof(Own));
    return out;
  }

  std::string text(std::string_view field, const fb::String* from, size_t most) {
    if (from == nullptr || !bounded(field, from->size(), most)) return {};
    std::string out = from->str();
    if (!is_printable(out)) fail(fmt::format("{} is not printable ASCII", field));
    return out;
  }

  std::string name(std::string_view field, const fb::String& from) {
    if (Status checked = check_name(from.string_view()); !checked.ok()) {
      fail(fmt::format("{}: {}", field, checked.message()));
    }
    return status_.ok() ? from.str() : std::string();
  }

  template <typename Enum>
  Enum one_of(std::string_view field, uint8_t value, Enum last) {
    if (value <= static_cast<uint8_t>(last)) return static_cast<Enum>(value);
    fail(fmt::format("{} is {}; this version knows 0 to {}", field, value,
                     static_cast<unsigned>(last)));
    return Enum{};
  }

  uint64_t number(std::string_view field, uint64_t value) {
    if (value == 0) fail(fmt::format("{} is missing", field));
    return value;
  }

  uint32_t dimension(std::string_view field, uint32_t value) {
    if (value == 0 || value > kLayoutDimensionMax) {
      fail(fmt::format("{} is {}, not 1 to {}", field, value, kLayoutDimensionMax));
    }
    return value;
  }

  bool bounded(std::string_view field, size_t size, size_t most) {
    if (size > most) fail(fmt::format("{} has {} entries; the most is {}", field, size, most));
    return status_.ok();
  }

  void demand(bool holds, std::string_view complaint) {
    if (!holds) fail(std::string(complaint));
  }
  void fail(std::string complaint) { keep(corruption("control frame: " + std::move(complaint))); }
  void keep(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  static constexpr uint64_t kBlocks = uint64_t{BlockAddress::kIndexMax} + 1;
  Status status_;
};

}  // namespace

Result<Frame> decode(std::span<const std::byte> bytes) {
  MEMPOOL_CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % sizeof(uint64_t) == 0);
  if (bytes.size() > kFrameBytesMax) {
    return corruption(
        fmt::format("control frame: {} bytes; the most is {}", bytes.size(), kFrameBytesMax));
  }
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  fb::Verifier verifier(data, bytes.size(), kDepthMax, kTablesMax);
  if (!wire::VerifyFrameBuffer(verifier)) {
    return corruption(fmt::format("control frame: {} bytes that are no {} frame", bytes.size(),
                                  wire::FrameIdentifier()));
  }
  Decoder decoder;
  Frame frame = decoder.frame(*wire::GetFrame(data));
  if (!decoder.status().ok()) return decoder.status();
  return frame;
}

Status check_name(std::string_view name) {
  if (!name.empty() && name.size() <= kNameBytesMax && is_printable(name)) return Status();
  return invalid_argument(fmt::format("a name of {} bytes: give 1 to {} printable ASCII characters",
                                      name.size(), kNameBytesMax));
}

}  // namespace mempool
