// SPDX-License-Identifier: Apache-2.0
// Owns the proof that control frames which no agent of ours would send are refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/wire.h"
#include "agent/wire_generated.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

/// The bytes behind the length word, in memory of their own, so that a read past them is seen.
std::vector<std::byte> body_of(const Frame& frame) {
  const std::vector<std::byte> bytes = encode(frame);
  return {bytes.begin() + 4, bytes.end()};
}

/// A frame that encode() would never make.
std::vector<std::byte> bytes_of(const flatbuffers::FlatBufferBuilder& builder) {
  const auto* first = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {first, first + builder.GetSize()};
}

void expect_refused(const Frame& frame, std::string_view words,
                    StatusCode code = StatusCode::kCorruption) {
  const Result<Frame> back = decode(body_of(frame));
  ASSERT_FALSE(back.ok()) << words;
  EXPECT_EQ(back.status().code(), code);
  EXPECT_THAT(std::string(back.status().message()), HasSubstr(words));
}

TEST(Wire, nothing_and_noise_are_no_frames) {
  EXPECT_FALSE(decode({}).ok());
  EXPECT_FALSE(decode(std::vector<std::byte>(4)).ok());
  EXPECT_FALSE(decode(std::vector<std::byte>(4096, std::byte{0xff})).ok());
  std::vector<std::byte> other_format = body_of(Message(Cancel{1}));
  other_format[4] = std::byte{'X'};
  const Status status = decode(other_format).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("MPC1"));
}

TEST(Wire, frame_of_an_unknown_kind_is_refused_by_its_number) {
  flatbuffers::FlatBufferBuilder builder;
  const auto body = wire::CreateCancel(builder, 1);
  wire::FinishFrameBuffer(builder, wire::CreateFrame(builder, wire::Body(99), body.Union()));
  const Status status = decode(bytes_of(builder)).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(std::string(status.message()), HasSubstr("kind 99"));
}

TEST(Wire, frame_without_a_required_field_is_refused) {
  flatbuffers::FlatBufferBuilder builder;
  const auto start = builder.StartTable();
  builder.AddElement<uint64_t>(wire::Commit::VT_NUMBER, 1, 0);
  const flatbuffers::Offset<void> body(builder.EndTable(start));  // without its sums
  wire::FinishFrameBuffer(builder, wire::CreateFrame(builder, wire::Body::Commit, body));
  EXPECT_EQ(decode(bytes_of(builder)).status().code(), StatusCode::kCorruption);
}

TEST(Wire, message_without_a_number_is_refused) {
  expect_refused(Message(Offer{.number = 0}), "Offer.number");
  expect_refused(Message(OfferReply{}), "OfferReply.number");
  expect_refused(Message(Commit{}), "Commit.number");
  expect_refused(Message(CommitReply{}), "CommitReply.number");
  expect_refused(Message(Cancel{}), "Cancel.number");
  expect_refused(Message(CancelReply{}), "CancelReply.number");
  expect_refused(Message(StopRequest{}), "StopRequest.number");
  expect_refused(Hello{.name = "a"}, "Hello.incarnation");
  expect_refused(HelloReply{.name = "a"}, "HelloReply.incarnation");
}

TEST(Wire, lists_past_their_bounds_are_refused_by_name) {
  Offer offer = {.number = 1};
  offer.tokens.resize(kOfferTokensMax + 1);
  expect_refused(Message(offer), "Offer.tokens has 4194305 entries; the most is 4194304");
  offer = {.number = 1};
  offer.user_data.resize(kUserDataBytesMax + 1);
  expect_refused(Message(offer), "Offer.user_data");
  offer = {.number = 1, .reserve = kOfferBlocksMax + 1};
  expect_refused(Message(offer), "Offer.reserve");
  offer = {.number = 1};
  offer.places.resize(kOfferBlocksMax + 1);
  expect_refused(Message(offer), "Offer.places");
  Cancel cancel = {.number = 1};
  cancel.release.resize(kOfferBlocksMax + 1);
  expect_refused(Message(cancel), "Cancel.release");
  OfferReply reply = {.number = 1};
  reply.reserved.resize(kOfferBlocksMax + 1);
  expect_refused(Message(reply), "OfferReply.reserved");
  reply = {.number = 1};
  reply.sums.resize(kFetchBlocksMax + 1);
  expect_refused(Message(reply), "OfferReply.sums");
  Commit commit = {.number = 1};
  commit.sums.resize(kOfferBlocksMax + 1);
  expect_refused(Message(commit), "Commit.sums");
  Welcome welcome;
  welcome.transports.resize(kTransportsMax + 1, {.name = "tcp"});
  expect_refused(welcome, "Welcome.transports");
  welcome.transports = {{.name = "tcp"}};
  welcome.transports[0].address.resize(kTransportAddressBytesMax + 1);
  expect_refused(welcome, "TransportOffer.address");
  welcome.transports[0].address.clear();
  welcome.transports[0].keys.resize(kSegmentsMax + 1);
  expect_refused(welcome, "TransportOffer.keys");
  welcome.transports[0].keys.resize(1);
  welcome.transports[0].keys[0].key.resize(kRegionKeyBytesMax + 1);
  expect_refused(welcome, "RegionKey.key");
  welcome.transports.clear();
  welcome.closed.resize(kTransportsMax + 1, {.name = "verbs", .why = "no device"});
  expect_refused(welcome, "Welcome.closed");
  welcome.closed = {{.name = "ver\nbs", .why = "no device"}};
  expect_refused(welcome, "ClosedTransport.name");
}

TEST(Wire, names_that_would_spoil_a_log_are_refused) {
  for (const std::string& name :
       {std::string(), std::string("a\nb"), std::string("\x7f"), std::string(256, 'n')}) {
    expect_refused(Hello{.name = name, .incarnation = 1}, "Hello.name");
    EXPECT_EQ(check_name(name).code(), StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(check_name("decode 0").ok());
}

TEST(Wire, traces_that_encode_would_not_write_are_refused) {
  for (const std::string& trace : {std::string("00-\n"), std::string(kTraceBytesMax + 1, 't')}) {
    flatbuffers::FlatBufferBuilder builder;
    const auto body = wire::CreateHeartbeat(builder, 1).Union();
    wire::FinishFrameBuffer(builder, wire::CreateFrame(builder, wire::Body::Heartbeat, body,
                                                       builder.CreateString(trace)));
    const Status status = decode(bytes_of(builder)).status();
    EXPECT_EQ(status.code(), StatusCode::kCorruption);
    EXPECT_THAT(std::string(status.message()), HasSubstr("Frame.trace"));
  }
}

TEST(Wire, numbers_outside_an_enumeration_are_refused) {
  expect_refused(Message(Offer{.number = 1, .medium = Medium(2)}), "Offer.medium is 2");
  expect_refused(Refusal{Status(StatusCode(13), "")}, "Refusal.status is 13");
  BlockAddress address;
  address.place = 7u << BlockAddress::kIndexBits;
  expect_refused(Message(CommitReply{.number = 1, .serving = {address}}),
                 "CommitReply.serving names medium 7");
}

TEST(Wire, offers_that_ask_for_two_things_are_refused) {
  const std::vector<BlockAddress> places = {BlockAddress::make(1, 1, Medium::kHost, 1)};
  expect_refused(Message(Offer{.number = 1, .tokens = {7}, .reserve = 1}), "more than one thing");
  expect_refused(Message(Offer{.number = 1, .tokens = {7}, .places = places}),
                 "more than one thing");
  expect_refused(Message(Offer{.number = 1, .reserve = 1, .places = places}),
                 "more than one thing");
  expect_refused(Message(Offer{.number = 1, .fetch = true, .reserve = 1}), "more than one thing");
}

TEST(Wire, handshake_that_contradicts_itself_is_refused) {
  expect_refused(Hello{.version_oldest = 3, .version = 2, .name = "a", .incarnation = 1},
                 "version_oldest");
  expect_refused(Refusal{}, "Refusal.status is OK");
}

/// A segment that passes, for tests to break.
Welcome good_welcome() {
  PlanSegment segment{.blocks = 4};
  segment.layout = {.layers = 2, .parts = 2, .heads = 2, .tokens = 16, .vector_bytes = 64};
  segment.layout.block_stride = 2048;
  return {.segments = {segment}};
}

TEST(Wire, layouts_without_a_dimension_are_refused) {
  ASSERT_TRUE(decode(body_of(good_welcome())).ok());
  const auto each = [](auto breaks, std::string_view words) {
    Welcome welcome = good_welcome();
    breaks(welcome.segments[0], welcome.segments[0].layout);
    expect_refused(welcome, words);
  };
  each([](auto&, auto& layout) { layout.layers = 0; }, "LayoutGroup.layers");
  each([](auto&, auto& layout) { layout.parts = 3; }, "LayoutGroup.parts");
  each([](auto&, auto& layout) { layout.heads = 0; }, "LayoutGroup.heads");
  each([](auto&, auto& layout) { layout.tokens = kLayoutDimensionMax + 1; }, "LayoutGroup.tokens");
  each([](auto&, auto& layout) { layout.first_layer = UINT32_MAX; }, "LayoutGroup.first_layer");
  each([](auto&, auto& layout) { layout.first_head = UINT32_MAX; }, "LayoutGroup.first_head");
  each([](auto&, auto& layout) { layout.order = TokenOrder(2); }, "LayoutGroup.order is 2");
  each([](auto&, auto& layout) { layout.vector_bytes = 0; }, "LayoutGroup.vector_bytes");
  each([](auto& segment, auto&) { segment.blocks = 0; }, "Segment.blocks");
  each([](auto& segment, auto&) { segment.first_block = BlockAddress::kIndexMax; },
       "Segment.blocks");
  each([](auto& segment, auto&) { segment.first_block = UINT32_MAX; }, "Segment.blocks");
  each([](auto& segment, auto&) { segment.shard = kShardsMax; }, "Segment.shard");
}

TEST(Wire, layouts_past_63_bits_are_refused) {
  for (uint64_t BlockLayout::*stride :
       {&BlockLayout::block_stride, &BlockLayout::layer_stride, &BlockLayout::part_stride}) {
    Welcome welcome = good_welcome();
    welcome.segments[0].layout.*stride = uint64_t{1} << 63;
    expect_refused(welcome, "63 bits");
  }
  Welcome welcome = good_welcome();
  BlockLayout& layout = welcome.segments[0].layout;
  layout.layers = layout.heads = layout.tokens = kLayoutDimensionMax;
  layout.vector_bytes = kVectorBytesMax;
  expect_refused(welcome, "63 bits");
}

TEST(Wire, layout_of_several_groups_is_unsupported) {
  flatbuffers::FlatBufferBuilder builder;
  const auto group = wire::CreateLayoutGroup(builder, 1, 1, 1, 1);
  const auto groups = builder.CreateVector({group, group});
  const auto segment = wire::CreateSegment(builder, 0, 0, 1, groups);
  const wire::ContentId model;
  const auto welcome = wire::CreateWelcome(
      builder, &model, builder.CreateVector({segment}),
      builder.CreateVector(std::vector<flatbuffers::Offset<wire::TransportOffer>>()));
  wire::FinishFrameBuffer(builder,
                          wire::CreateFrame(builder, wire::Body::Welcome, welcome.Union()));
  const Status status = decode(bytes_of(builder)).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 groups"));
}

}  // namespace
}  // namespace mempool
