// SPDX-License-Identifier: Apache-2.0
// Owns the proof that the control plane's frames survive the way to bytes and back, and that no
// bytes whatever do harm.
#include "agent/wire.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <tuple>

#include "core/random.h"

namespace mempool {
namespace {

// ---- every field of every frame, so that a field that is added and forgotten does not compile
// ----

auto fields(const Status& status) {
  return std::tuple(status.code(), std::string(status.message()), status.retry_after_ms());
}
auto fields(const Hello& frame) {
  const auto& [oldest, version, features, name, incarnation, nonce] = frame;
  return std::tuple(oldest, version, features, name, incarnation, nonce);
}
auto fields(const HelloReply& frame) {
  const auto& [version, features, name, incarnation, nonce, proof] = frame;
  return std::tuple(version, features, name, incarnation, nonce, proof);
}
auto fields(const Introduction& frame) {
  const auto& [proof, model] = frame;
  return std::tuple(proof, model);
}
auto fields(const TransportOffer& offer) {
  const auto& [name, address, keys] = offer;
  std::vector<std::tuple<uint32_t, std::vector<std::byte>>> flat;
  for (const auto& [region, key] : keys) flat.emplace_back(region, key);
  return std::tuple(name, address, flat);
}
auto fields(const Welcome& frame) {
  const auto& [model, segments, transports, closed] = frame;
  std::vector<decltype(fields(TransportOffer{}))> flat;
  for (const TransportOffer& offer : transports) flat.push_back(fields(offer));
  std::vector<std::tuple<std::string, std::string>> reasons;
  for (const auto& [name, why] : closed) reasons.emplace_back(name, why);
  return std::tuple(model, segments, flat, reasons);
}
auto fields(const Refusal& frame) {
  return fields(frame.status);
}
auto fields(const Offer& frame) {
  const auto& [number, request, deadline, medium, content, tokens, user_data, fetch, reserve,
               places, trace] = frame;
  return std::tuple(number, request, deadline, medium, content, tokens, user_data, fetch, reserve,
                    places, trace);
}
auto fields(const OfferReply& frame) {
  const auto& [number, status, slot, matched, reserved, sums] = frame;
  return std::tuple(number, fields(status), slot, matched, reserved, sums);
}
auto fields(const Commit& frame) {
  const auto& [number, notifications, sums] = frame;
  return std::tuple(number, notifications, sums);
}
auto fields(const CommitReply& frame) {
  const auto& [number, status, serving] = frame;
  return std::tuple(number, fields(status), serving);
}
auto fields(const Cancel& frame) {
  const auto& [number, release] = frame;
  return std::tuple(number, release);
}
template <typename Numbered>  // CancelReply and its kind
auto fields(const Numbered& frame) {
  return std::tuple(frame.number);
}
auto fields(const Heartbeat& frame) {
  return std::tuple(frame.progress);
}
auto fields(const Goodbye&) {
  return std::tuple();
}

template <typename T>
const T* get(const Frame& frame) {
  if constexpr (std::is_constructible_v<Message, T> && !std::is_same_v<T, Message>) {
    const auto* message = std::get_if<Message>(&frame);
    return message == nullptr ? nullptr : std::get_if<T>(message);
  } else {
    return std::get_if<T>(&frame);
  }
}

// ---- any frame ----

std::string any_text(int most) {
  const auto printable = rc::gen::inRange<int>(' ', '~' + 1);
  std::string text;
  for (int left = *rc::gen::inRange(0, most + 1); left > 0; --left) {
    text.push_back(static_cast<char>(*printable));
  }
  return text;
}
std::string any_name() {
  return "x" + any_text(20);
}

template <typename T>
T any() {
  return *rc::gen::arbitrary<T>();
}
uint64_t any_number() {
  return *rc::gen::nonZero<uint64_t>();
}
uint32_t any_dimension() {
  return *rc::gen::inRange<uint32_t>(1, 129);
}

std::vector<std::byte> any_bytes() {
  std::vector<std::byte> bytes;
  for (const uint8_t byte : any<std::vector<uint8_t>>()) bytes.push_back(std::byte{byte});
  return bytes;
}
template <size_t kSize>
std::array<std::byte, kSize> any_array() {
  std::array<std::byte, kSize> bytes;
  for (std::byte& byte : bytes) byte = std::byte{any<uint8_t>()};
  return bytes;
}
ContentId any_content() {
  return {{any<uint64_t>(), any<uint64_t>()}};
}
Medium any_medium() {
  return *rc::gen::element(Medium::kDevice, Medium::kHost);
}

std::vector<BlockAddress> any_addresses() {
  std::vector<BlockAddress> list(*rc::gen::inRange<size_t>(0, 20));
  for (BlockAddress& address : list) {
    address = BlockAddress::make(any<uint64_t>(), any<uint32_t>(), any_medium(),
                                 *rc::gen::inRange<uint32_t>(0, BlockAddress::kIndexMax));
  }
  return list;
}

Status any_error() {
  const auto code = *rc::gen::inRange<int>(1, static_cast<int>(StatusCode::kInternal) + 1);
  return Status(static_cast<StatusCode>(code), any_text(100), any<uint32_t>());
}
Status any_status() {
  return any<bool>() ? Status() : any_error();
}

PlanSegment any_segment() {
  const auto any_stride = rc::gen::inRange<uint64_t>(0, 1ull << 40);
  PlanSegment segment;
  segment.region = any<uint32_t>();
  segment.first_block = *rc::gen::inRange<uint32_t>(0, 1u << 27);
  segment.blocks = *rc::gen::inRange<uint32_t>(1, 1u << 20);
  segment.shard = *rc::gen::inRange<uint32_t>(0, kShardsMax);
  BlockLayout& layout = segment.layout;
  layout.layers = any_dimension();
  layout.parts = *rc::gen::element(1, 2);
  layout.heads = any_dimension();
  layout.tokens = any_dimension();
  layout.first_layer = any_dimension();
  layout.first_head = any_dimension();
  layout.replicated = any<bool>();
  layout.order = *rc::gen::element(TokenOrder::kTokenHead, TokenOrder::kHeadToken);
  layout.vector_bytes = any_dimension();
  layout.piece_bytes = layout.vector_bytes * layout.heads * layout.tokens;
  layout.block_bytes = layout.piece_bytes * layout.layers * layout.parts;
  layout.block_stride = *any_stride;
  layout.layer_stride = *any_stride;
  layout.part_stride = *any_stride;
  return segment;
}

void make(Hello& frame) {
  frame.version_oldest = *rc::gen::inRange<uint16_t>(0, 100);
  frame.version = *rc::gen::inRange<uint16_t>(100, UINT16_MAX);
  frame.features = any<uint64_t>();
  frame.name = any_name();
  frame.incarnation = any_number();
  frame.nonce = any_array<16>();
}
void make(HelloReply& frame) {
  frame.version = any<uint16_t>();
  frame.features = any<uint64_t>();
  frame.name = any_name();
  frame.incarnation = any_number();
  frame.nonce = any_array<16>();
  frame.proof = any_array<32>();
}
void make(Introduction& frame) {
  frame.proof = any_array<32>();
  frame.model = any_content();
}
void make(Welcome& frame) {
  frame.model = any_content();
  frame.segments.resize(*rc::gen::inRange<size_t>(0, 5));
  for (PlanSegment& segment : frame.segments) segment = any_segment();
  frame.transports.resize(*rc::gen::inRange<size_t>(0, 4));
  for (TransportOffer& offer : frame.transports) {
    offer = {any_name(), any_bytes(), {}};
    offer.keys.resize(*rc::gen::inRange<size_t>(0, 4));
    for (TransportOffer::Key& key : offer.keys) key = {any<uint32_t>(), any_bytes()};
  }
  frame.closed.resize(*rc::gen::inRange<size_t>(0, 4));
  for (ClosedTransport& closed : frame.closed) closed = {any_name(), any_text(100)};
}
void make(Refusal& frame) {
  frame.status = any_error();
}
void make(Offer& frame) {
  frame.number = any_number();
  frame.request_id = any<uint64_t>();
  frame.deadline_ms = any<uint32_t>();
  frame.medium = any_medium();
  frame.content = {any_content(), any_content(), any<uint64_t>()};
  frame.user_data = any_bytes();
  const int asks = *rc::gen::inRange(0, 4);  // one thing at a time
  if (asks < 2) {
    frame.tokens = any<std::vector<TokenId>>();
    frame.fetch = asks == 1;
  } else if (asks == 2) {
    frame.reserve = *rc::gen::inRange<uint32_t>(1, kOfferBlocksMax + 1);
  } else {
    frame.places = any_addresses();
  }
  frame.trace = any_text(60);
}
std::vector<SealedSum> any_sums() {
  std::vector<SealedSum> sums(*rc::gen::inRange<size_t>(0, 20));
  for (SealedSum& sum : sums) sum = {any<uint32_t>(), any<uint64_t>()};
  return sums;
}
void make(OfferReply& frame) {
  frame.number = any_number();
  frame.status = any_status();
  frame.slot = {any<uint32_t>(), any<uint32_t>()};
  frame.matched = any_addresses();
  frame.reserved = any_addresses();
  frame.sums = any_sums();
}
void make(Commit& frame) {
  frame.number = any_number();
  frame.notifications = any<uint32_t>();
  frame.sums = any_sums();
}
void make(CommitReply& frame) {
  frame.number = any_number();
  frame.status = any_status();
  frame.serving = any_addresses();
}
void make(Cancel& frame) {
  frame.number = any_number();
  frame.release = any_addresses();
}
void make(CancelReply& frame) {
  frame.number = any_number();
}
void make(StopRequest& frame) {
  frame.number = any_number();
}
void make(Heartbeat& frame) {
  frame.progress = any<uint64_t>();
}
void make(Goodbye&) {}

template <typename T>
T any_frame() {
  T frame;
  make(frame);
  return frame;
}

/// The bytes behind the length word, in memory of their own, so that a read past them is seen.
std::vector<std::byte> body_of(const Frame& frame) {
  const std::vector<std::byte> bytes = encode(frame);
  return {bytes.begin() + 4, bytes.end()};
}

// ---- there and back ----

template <typename T>
class WireFrame : public ::testing::Test {};

using Frames =
    ::testing::Types<Hello, HelloReply, Introduction, Welcome, Refusal, Offer, OfferReply, Commit,
                     CommitReply, Cancel, CancelReply, StopRequest, Heartbeat, Goodbye>;
TYPED_TEST_SUITE(WireFrame, Frames);

TYPED_TEST(WireFrame, comes_back_as_it_was) {
  EXPECT_TRUE(rc::check([] {
    const auto frame = any_frame<TypeParam>();
    const Result<Frame> back = decode(body_of(frame));
    RC_ASSERT(back.ok());
    const TypeParam* same = get<TypeParam>(*back);
    RC_ASSERT(same != nullptr);
    RC_ASSERT(fields(*same) == fields(frame));
  }));
}

/// A frame, or an error; and whatever passed as a frame can be said again in the same bytes.
void expect_harmless(const std::vector<std::byte>& bytes) {
  const Result<Frame> frame = decode(bytes);
  if (!frame.ok()) {
    EXPECT_FALSE(frame.status().message().empty());
    return;
  }
  const std::vector<std::byte> once = body_of(*frame);
  const Result<Frame> again = decode(once);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(body_of(*again), once);
}

TYPED_TEST(WireFrame, cut_short_anywhere_is_harmless) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<std::byte> whole = body_of(any_frame<TypeParam>());
    for (size_t size = 0; size < whole.size(); ++size) {
      expect_harmless(std::vector<std::byte>(whole.begin(), whole.begin() + size));
    }
    RC_ASSERT(!::testing::Test::HasFailure());
  }));
}

TYPED_TEST(WireFrame, with_flipped_bits_is_harmless) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<std::byte> whole = body_of(any_frame<TypeParam>());
    Random random(any<uint64_t>());
    for (int round = 0; round < 200; ++round) {
      std::vector<std::byte> bytes = whole;
      for (uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
        bytes[random.below(bytes.size())] ^= std::byte{1} << random.below(8);
      }
      expect_harmless(bytes);
    }
    RC_ASSERT(!::testing::Test::HasFailure());
  }));
}

// ---- what the bytes are ----

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(std::byte(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

TEST(Wire, bytes_of_version_1_are_still_read) {
  const Result<Frame> hello = decode(from_hex(
      "100000004d50433108000c00070008000800000000000001140000001000240004000600000008001c000c001000"
      "0000010001001c000000000102030405060708090a0b0c0d0e0f8877665544332211080000007072656669"
      "6c6c3000000000"));
  ASSERT_TRUE(hello.ok()) << hello.status().to_string();
  Nonce nonce;
  for (size_t i = 0; i < nonce.size(); ++i) nonce[i] = std::byte(i);
  const Hello written{1, 1, 0, "prefill0", 0x1122334455667788, nonce};
  EXPECT_EQ(fields(std::get<Hello>(*hello)), fields(written));

  const Result<Frame> reply = decode(from_hex(
      "140000004d5043310000000008000e000700080008000000000000071400000000000e0024001800040008001000"
      "14000e0000002800000002000000030000002c000000400000000100000000000000000000000800080000000400"
      "08000000040000000000000000000000010000008877665544332211030000001100001000000000010000008877"
      "6655443322110400000012000010"));
  ASSERT_TRUE(reply.ok()) << reply.status().to_string();
  const OfferReply answered{1,
                            Status(),
                            {2, 3},
                            {BlockAddress::make(0x1122334455667788, 3, Medium::kHost, 17)},
                            {BlockAddress::make(0x1122334455667788, 4, Medium::kHost, 18)}};
  EXPECT_EQ(fields(std::get<OfferReply>(std::get<Message>(*reply))), fields(answered));
}

TEST(Wire, length_word_is_little_endian_and_counts_what_follows) {
  const std::vector<std::byte> bytes = encode(Message(Heartbeat{7}));
  uint32_t length = 0;
  for (int i = 3; i >= 0; --i) length = length << 8 | std::to_integer<uint32_t>(bytes[i]);
  EXPECT_EQ(length, bytes.size() - 4);
}

TEST(Wire, offer_is_hardly_larger_than_its_tokens) {
  Offer offer = {.number = 1};
  offer.tokens.resize(100'000);
  EXPECT_LT(encode(Message(offer)).size(), 4 * offer.tokens.size() + 200);
}

TEST(Wire, handshake_with_the_longest_texts_fits_its_limit) {
  const std::string name(kNameBytesMax, 'n');
  EXPECT_LE(body_of(Hello{.name = name, .incarnation = 1}).size(), kHandshakeBytesMax);
  EXPECT_LE(body_of(HelloReply{.name = name, .incarnation = 1}).size(), kHandshakeBytesMax);
  EXPECT_LE(body_of(Refusal{internal_error(std::string(5000, 'm'))}).size(), kHandshakeBytesMax);
}

TEST(Wire, fullest_answer_fits_a_frame) {
  OfferReply reply = {.number = 1};
  const BlockAddress address = BlockAddress::make(1, 1, Medium::kHost, 1);
  reply.matched.assign(kOfferBlocksMax / 2, address);
  reply.reserved.assign(kOfferBlocksMax / 2, address);
  EXPECT_TRUE(decode(body_of(Message(reply))).ok());
  reply.reserved.clear();
  reply.sums.resize(kFetchBlocksMax);
  EXPECT_TRUE(decode(body_of(Message(reply))).ok());
}

TEST(Wire, trace_is_cut_and_made_printable) {
  const Result<Frame> frame =
      decode(body_of(Message(Offer{.number = 1, .trace = "00-\n" + std::string(200, 't')})));
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  const std::string& back = std::get<Offer>(std::get<Message>(*frame)).trace;
  EXPECT_EQ(back.size(), kTraceBytesMax);
  EXPECT_EQ(back.substr(0, 5), "00-?t");
}

TEST(Wire, message_of_a_status_is_cut_and_made_printable) {
  const std::string message = "two\nlines \x01" + std::string(2 * kStatusBytesMax, 'm');
  const Result<Frame> frame = decode(body_of(Refusal{stale(message)}));
  ASSERT_TRUE(frame.ok()) << frame.status().to_string();
  const std::string_view back = std::get<Refusal>(*frame).status.message();
  EXPECT_EQ(back.size(), kStatusBytesMax);
  EXPECT_EQ(back.substr(0, 11), "two?lines ?");
}

}  // namespace
}  // namespace mempool
