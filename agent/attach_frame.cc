// SPDX-License-Identifier: Apache-2.0
// Owns the way between frames and their bytes.
#include "agent/attach_frame.h"

#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "agent/attach_generated.h"
#include "core/check.h"

namespace mempool {
namespace {

namespace fb = flatbuffers;

constexpr fb::uoffset_t kDepthMax = 3;  // frame, body, segment
constexpr fb::uoffset_t kTablesMax = 2 + kAttachSegmentsMax;

/// Builds one frame; a call for each kind. Thread: confined.
class Encoder {
 public:
  std::vector<std::byte> finish(const AttachFrame& frame) {
    const Packed packed = std::visit(*this, frame);
    builder_.Finish(wire::CreateAttachFrame(builder_, packed.kind, packed.body),
                    wire::AttachFrameIdentifier());
    const uint32_t size = builder_.GetSize();
    MEMPOOL_CHECK(size <= kAttachFrameBytesMax);
    std::vector<std::byte> bytes(sizeof size + size);
    std::memcpy(bytes.data(), &size, sizeof size);
    std::memcpy(bytes.data() + sizeof size, builder_.GetBufferPointer(), size);
    return bytes;
  }

  struct Packed {
    wire::AttachBody kind;
    fb::Offset<void> body;
  };

  Packed operator()(const AttachHello& hello) {
    const Placement placement = hello.placement.value_or(Placement());
    return pack(wire::CreateAttachHello(
        builder_, hello.version, hello.shard, hello.shards, hello.placement.has_value(),
        static_cast<uint8_t>(placement.form), static_cast<uint8_t>(placement.order)));
  }

  Packed operator()(const AttachWelcome& welcome) {
    std::vector<fb::Offset<wire::MappedSegment>> segments;
    for (const AttachWelcome::Segment& segment : welcome.segments) {
      segments.push_back(wire::CreateMappedSegment(builder_, segment.first_block, segment.blocks,
                                                   segment.bytes, segment.region, segment.adopted,
                                                   segment.in_place, segment.block_stride,
                                                   segment.layer_stride, segment.part_stride));
    }
    const auto model = std::bit_cast<wire::ContentId>(welcome.model);
    const ContentSpec& shape = welcome.shape;
    return pack(wire::CreateAttachWelcome(
        builder_, static_cast<uint8_t>(welcome.status.code()), text(welcome.status.message()),
        welcome.incarnation, &model, static_cast<uint8_t>(welcome.verify),
        static_cast<uint8_t>(shape.element), shape.layers, shape.kv_heads, shape.head_size,
        shape.mla_rank, shape.tokens_per_block, static_cast<uint8_t>(welcome.placement.form),
        static_cast<uint8_t>(welcome.placement.order), builder_.CreateVector(segments),
        welcome.shards, static_cast<uint64_t>(welcome.default_deadline.count()), welcome.max_blocks,
        welcome.segments_version));
  }

  Packed operator()(const AttachCall& call) {
    const auto content = std::bit_cast<wire::ContentId>(call.content.id);
    const auto model = std::bit_cast<wire::ContentId>(call.content.model);
    return pack(wire::CreateCall(
        builder_, static_cast<uint8_t>(call.operation), call.ticket, call.count,
        static_cast<uint8_t>(call.medium), &content, &model, list<uint32_t>(call.tokens),
        structs<wire::BlockAddress>(call.blocks), structs<wire::SealedSum>(call.sums),
        structs<wire::ContentId>(call.keys), text(call.name), text(call.address), call.in_layers,
        call.layers.first, call.layers.count, call.deadline_ms, call.request_id,
        list<uint8_t>(call.user_data), text(call.trace), call.corrupt, list<uint32_t>(call.indices),
        call.memory.bytes, call.memory.block_stride, call.memory.layer_stride,
        call.memory.part_stride, call.in_place, structs<wire::BlockAddress>(call.places),
        call.content.tenant));
  }

  Packed operator()(const AttachAnswer& answer) {
    return pack(wire::CreateAnswer(builder_, static_cast<uint8_t>(answer.status.code()),
                                   text(answer.status.message()), answer.status.retry_after_ms(),
                                   answer.count, structs<wire::BlockAddress>(answer.blocks),
                                   structs<wire::BlockAddress>(answer.duplicates),
                                   answer.checksum.has_value(), answer.checksum.value_or(0)));
  }

  Packed operator()(const TransferEnded& ended) {
    const TransferReport& report = ended.report;
    return pack(wire::CreateEnded(
        builder_, ended.ticket, static_cast<uint8_t>(ended.status.code()),
        text(ended.status.message()), ended.status.retry_after_ms(), text(report.transport),
        report.bytes, report.bytes_saved, report.tokens, report.tokens_matched, report.paper_calls,
        report.run_pair_calls, report.network_calls, report.system_calls.has_value(),
        report.system_calls.value_or(0), report.prepare_us, report.post_us, report.complete_us,
        structs<wire::BlockAddress>(report.serving), text(report.route), report.doorbells,
        report.completions));
  }

  Packed operator()(const Arrival& arrival) {
    const auto content = std::bit_cast<wire::ContentId>(arrival.content.id);
    const auto model = std::bit_cast<wire::ContentId>(arrival.content.model);
    return pack(wire::CreateArrived(
        builder_, text(arrival.source), arrival.transfer, arrival.request_id,
        list<uint8_t>(arrival.user_data), &content, &model, list<uint32_t>(arrival.tokens),
        structs<wire::BlockAddress>(arrival.blocks), arrival.last_block_tokens,
        arrival.tokens_matched, arrival.content.tenant));
  }

 private:
  template <typename Table>
  static Packed pack(fb::Offset<Table> table) {
    return {wire::AttachBodyTraits<Table>::enum_value, table.Union()};
  }

  // Of what is empty nothing travels.
  fb::Offset<fb::String> text(std::string_view text) {
    return text.empty() ? 0 : builder_.CreateString(text);
  }

  template <typename Wire, typename T>
  fb::Offset<fb::Vector<Wire>> list(const std::vector<T>& from) {
    static_assert(sizeof(Wire) == sizeof(T));
    if (from.empty()) return 0;
    return builder_.CreateVector(reinterpret_cast<const Wire*>(from.data()), from.size());
  }

  template <typename Wire, typename T>
  fb::Offset<fb::Vector<const Wire*>> structs(const std::vector<T>& from) {
    static_assert(sizeof(Wire) == sizeof(T));
    if (from.empty()) return 0;
    return builder_.CreateVectorOfStructs(reinterpret_cast<const Wire*>(from.data()), from.size());
  }

  fb::FlatBufferBuilder builder_;
};

/// Takes fields and keeps the first complaint; what it gives after one is empty. Thread: confined.
class Decoder {
 public:
  const Status& status() const { return status_; }

  AttachFrame frame(const wire::AttachFrame& frame) {
    switch (frame.body_type()) {
      case wire::AttachBody::AttachHello:
        return read(*frame.body_as_AttachHello());
      case wire::AttachBody::AttachWelcome:
        return read(*frame.body_as_AttachWelcome());
      case wire::AttachBody::Call:
        return read(*frame.body_as_Call());
      case wire::AttachBody::Answer:
        return read(*frame.body_as_Answer());
      case wire::AttachBody::Ended:
        return read(*frame.body_as_Ended());
      case wire::AttachBody::Arrived:
        return read(*frame.body_as_Arrived());
      case wire::AttachBody::NONE:
        break;
    }
    fail("a frame of a kind that this version does not know");
    return {};
  }

 private:
  AttachHello read(const wire::AttachHello& hello) {
    AttachHello out{.version = hello.version(), .shard = hello.shard(), .shards = hello.shards()};
    if (hello.has_placement()) out.placement = placement(hello.form(), hello.order());
    return out;
  }

  AttachWelcome read(const wire::AttachWelcome& welcome) {
    AttachWelcome out;
    out.status = read(welcome.code(), welcome.message(), 0);
    out.incarnation = welcome.incarnation();
    if (welcome.model() != nullptr) out.model = std::bit_cast<ContentId>(*welcome.model());
    out.verify = one_of("verify", welcome.verify(), Verify::kAlways);
    out.shape.element = one_of("element", welcome.element(), ElementType::kInt8);
    out.shape.layers = welcome.layers();
    out.shape.kv_heads = welcome.kv_heads();
    out.shape.head_size = welcome.head_size();
    out.shape.mla_rank = welcome.mla_rank();
    out.shape.tokens_per_block = welcome.tokens_per_block();
    out.placement = placement(welcome.form(), welcome.order());
    out.shards = welcome.shards();
    out.default_deadline = std::chrono::milliseconds(
        std::min<uint64_t>(welcome.default_deadline_ms(), kWaitMax.count()));
    out.max_blocks = welcome.max_blocks();
    out.segments_version = welcome.segments_version();
    if (welcome.segments() == nullptr) return out;
    if (!bounded("segments", welcome.segments()->size(), kAttachSegmentsMax)) return out;
    for (const wire::MappedSegment* segment : *welcome.segments()) {
      out.segments.push_back({segment->first_block(), segment->blocks(), segment->bytes(),
                              segment->region(), segment->adopted(), segment->in_place(),
                              segment->block_stride(), segment->layer_stride(),
                              segment->part_stride()});
    }
    return out;
  }

  AttachCall read(const wire::Call& call) {
    AttachCall out;
    out.operation = one_of("operation", call.operation(), AttachOperation::kDetach);
    out.ticket = call.ticket();
    out.count = call.count();
    out.medium = one_of("medium", call.medium(), Medium::kHost);
    out.content = content(call.content(), call.model(), call.tenant());
    out.tokens = list<TokenId>("tokens", call.tokens(), kAttachTokensMax);
    out.blocks = list<BlockAddress>("blocks", call.blocks(), kAttachBlocksMax);
    out.places = list<BlockAddress>("places", call.places(), kAttachBlocksMax);
    out.sums = list<SealedSum>("sums", call.sums(), kAttachBlocksMax);
    out.keys = list<ContentId>("keys", call.keys(), kKeysMax);
    out.name = text("name", call.name(), kAttachNameBytesMax);
    out.address = text("address", call.address(), kAttachNameBytesMax);
    out.in_layers = call.in_layers();
    out.layers = {call.first_layer(), call.layer_count()};
    out.deadline_ms = call.deadline_ms();
    out.request_id = call.request_id();
    out.user_data = list<std::byte>("user_data", call.user_data(), kAttachFrameBytesMax);
    out.trace = text("trace", call.trace(), kAttachNameBytesMax);
    out.corrupt = call.corrupt();
    out.indices = list<uint32_t>("indices", call.indices(), kAttachBlocksMax);
    out.memory.bytes = call.bytes();
    out.memory.block_stride = call.block_stride();
    out.memory.layer_stride = call.layer_stride();
    out.memory.part_stride = call.part_stride();
    out.in_place = call.in_place();
    check_sums(out);
    return out;
  }

  // A commit's blocks are not in the frame: its sums are checked against the call's own.
  void check_sums(const AttachCall& call) {
    const bool commits = call.operation == AttachOperation::kCommit;
    for (size_t i = 0; i < call.sums.size(); ++i) {
      const bool inside = commits || call.sums[i].position < call.blocks.size();
      if (inside && (i == 0 || call.sums[i - 1].position < call.sums[i].position)) continue;
      return fail("a sum without its block, or out of order");
    }
  }

  AttachAnswer read(const wire::Answer& answer) {
    AttachAnswer out;
    out.status = read(answer.code(), answer.message(), answer.retry_after_ms());
    out.count = answer.count();
    out.blocks = list<BlockAddress>("blocks", answer.blocks(), kAttachBlocksMax);
    out.duplicates = list<BlockAddress>("duplicates", answer.duplicates(), kAttachBlocksMax);
    if (answer.sealed()) out.checksum = answer.checksum();
    return out;
  }

  TransferEnded read(const wire::Ended& ended) {
    TransferEnded out;
    out.ticket = ended.ticket();
    out.status = read(ended.code(), ended.message(), ended.retry_after_ms());
    TransferReport& report = out.report;
    report.transport = text("transport", ended.transport(), kAttachNameBytesMax);
    report.route = text("route", ended.route(), kAttachNameBytesMax);
    report.doorbells = ended.doorbells();
    report.completions = ended.completions();
    report.bytes = ended.bytes();
    report.bytes_saved = ended.bytes_saved();
    report.tokens = ended.tokens();
    report.tokens_matched = ended.tokens_matched();
    report.paper_calls = ended.paper_calls();
    report.run_pair_calls = ended.run_pair_calls();
    report.network_calls = ended.network_calls();
    report.system_calls.reset();
    if (ended.counts_system_calls()) report.system_calls = ended.system_calls();
    report.prepare_us = ended.prepare_us();
    report.post_us = ended.post_us();
    report.complete_us = ended.complete_us();
    report.serving = list<BlockAddress>("serving", ended.serving(), kAttachBlocksMax);
    return out;
  }

  Arrival read(const wire::Arrived& arrived) {
    Arrival out;
    out.source = text("source", arrived.source(), kAttachNameBytesMax);
    out.transfer = arrived.transfer();
    out.request_id = arrived.request_id();
    out.user_data = list<std::byte>("user_data", arrived.user_data(), kAttachFrameBytesMax);
    out.content = content(arrived.content(), arrived.model(), arrived.tenant());
    out.tokens = list<TokenId>("tokens", arrived.tokens(), kAttachTokensMax);
    out.blocks = list<BlockAddress>("blocks", arrived.blocks(), kAttachBlocksMax);
    out.last_block_tokens = arrived.last_block_tokens();
    out.tokens_matched = arrived.tokens_matched();
    return out;
  }

  // ---- fields ----

  Status read(uint8_t code, const fb::String* message, uint32_t retry_after_ms) {
    const StatusCode known = one_of("status", code, StatusCode::kInternal);
    if (known == StatusCode::kOk) return {};
    return Status(known, message == nullptr ? std::string() : message->str(), retry_after_ms);
  }

  Placement placement(uint8_t form, uint8_t order) {
    Placement out;
    out.form = one_of("form", form, BlockForm::kAggregated);
    out.order = one_of("order", order, TokenOrder::kHeadToken);
    return out;
  }

  static Content content(const wire::ContentId* id, const wire::ContentId* model, uint64_t tenant) {
    Content out;
    out.tenant = tenant;
    if (id != nullptr) out.id = std::bit_cast<ContentId>(*id);
    if (model != nullptr) out.model = std::bit_cast<ContentId>(*model);
    return out;
  }

  /// Copies the bytes, because the verifier does not look at the alignment of a list's elements.
  template <typename Own, typename Vector>
  std::vector<Own> list(std::string_view field, const Vector* from, size_t most) {
    if (from == nullptr || !bounded(field, from->size(), most)) return {};
    std::vector<Own> out(from->size());
    if (!out.empty()) std::memcpy(out.data(), from->Data(), out.size() * sizeof(Own));
    return out;
  }

  std::string text(std::string_view field, const fb::String* from, size_t most) {
    if (from == nullptr || !bounded(field, from->size(), most)) return {};
    return from->str();
  }

  template <typename Enum>
  Enum one_of(std::string_view field, uint8_t value, Enum last) {
    if (value <= static_cast<uint8_t>(last)) return static_cast<Enum>(value);
    fail(fmt::format("{} is {}, which this version does not know", field, value));
    return Enum{};
  }

  bool bounded(std::string_view field, size_t size, size_t most) {
    if (size > most) fail(fmt::format("{} has {} entries; the most is {}", field, size, most));
    return status_.ok();
  }

  void fail(std::string_view complaint) {
    if (status_.ok()) status_ = corruption(fmt::format("attach frame: {}", complaint));
  }

  Status status_;
};

}  // namespace

Status check_lists(size_t tokens, size_t blocks) {
  if (tokens <= kAttachTokensMax && blocks <= kAttachBlocksMax) return {};
  return invalid_argument(fmt::format("{} tokens and {} blocks; give at most {} and {} in one call",
                                      tokens, blocks, kAttachTokensMax, kAttachBlocksMax));
}

std::vector<std::byte> encode_attach(const AttachFrame& frame) {
  return Encoder().finish(frame);
}

Result<AttachFrame> decode_attach(std::span<const std::byte> bytes) {
  MEMPOOL_CHECK(reinterpret_cast<uintptr_t>(bytes.data()) % sizeof(uint64_t) == 0);
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  fb::Verifier verifier(data, bytes.size(), kDepthMax, kTablesMax);
  if (!wire::VerifyAttachFrameBuffer(verifier)) {
    return corruption(fmt::format("attach frame: {} bytes that are no {} frame", bytes.size(),
                                  wire::AttachFrameIdentifier()));
  }
  Decoder decoder;
  AttachFrame frame = decoder.frame(*wire::GetAttachFrame(data));
  if (!decoder.status().ok()) return decoder.status();
  return frame;
}

}  // namespace mempool
