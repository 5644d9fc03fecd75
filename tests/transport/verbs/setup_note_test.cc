// SPDX-License-Identifier: Apache-2.0
// Tests the bytes of the notes: what is written reads back, and nothing else is taken for a note.
#include "transport/verbs/setup_note.h"

#include <gtest/gtest.h>

#include <cstring>

namespace mempool {
namespace {

RailAddress rail_of(uint8_t seed, size_t queues) {
  RailAddress rail;
  rail.port.kind = LinkKind::kRoceV2Ip6;
  std::memset(rail.port.gid.raw, seed, sizeof rail.port.gid.raw);
  rail.port.lid = static_cast<uint16_t>(1000 + seed);
  rail.port.mtu = 2048;
  rail.port.reads_out = 16;
  rail.port.reads_in = 8;
  for (size_t i = 0; i < queues; ++i) {
    rail.queues.push_back({seed * 100u + static_cast<uint32_t>(i), 0xabcdef});
  }
  return rail;
}

void expect_equal(const RailAddress& a, const RailAddress& b) {
  EXPECT_EQ(a.port.kind, b.port.kind);
  EXPECT_EQ(std::memcmp(a.port.gid.raw, b.port.gid.raw, sizeof a.port.gid.raw), 0);
  EXPECT_EQ(a.port.lid, b.port.lid);
  EXPECT_EQ(a.port.mtu, b.port.mtu);
  EXPECT_EQ(a.port.reads_out, b.port.reads_out);
  EXPECT_EQ(a.port.reads_in, b.port.reads_in);
  ASSERT_EQ(a.queues.size(), b.queues.size());
  for (size_t i = 0; i < a.queues.size(); ++i) {
    EXPECT_EQ(a.queues[i].number, b.queues[i].number);
    EXPECT_EQ(a.queues[i].sequence, b.queues[i].sequence);
  }
}

std::vector<SetupNote> every_kind() {
  return {ConnectNote{{rail_of(1, 2), rail_of(2, 2)}}, AcceptedNote{16, {rail_of(3, 1)}},
          RefusedNote{resource_exhausted("no room")}, RailLostNote{1}, RailGoneNote{0}};
}

TEST(SetupNote, reads_back_as_written) {
  const SetupNote connect = decode_note(encode_note(every_kind()[0])).value();
  const auto& rails = std::get<ConnectNote>(connect).rails;
  ASSERT_EQ(rails.size(), 2u);
  expect_equal(rails[0], rail_of(1, 2));
  expect_equal(rails[1], rail_of(2, 2));
  const SetupNote accepted = decode_note(encode_note(every_kind()[1])).value();
  EXPECT_EQ(std::get<AcceptedNote>(accepted).notifications, 16);
  expect_equal(std::get<AcceptedNote>(accepted).rails.at(0), rail_of(3, 1));
  const SetupNote refused = decode_note(encode_note(every_kind()[2])).value();
  EXPECT_EQ(std::get<RefusedNote>(refused).status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(std::get<RefusedNote>(refused).status.message(), "the peer refuses: no room");
  EXPECT_EQ(std::get<RailLostNote>(decode_note(encode_note(RailLostNote{3})).value()).rail, 3);
  EXPECT_EQ(std::get<RailGoneNote>(decode_note(encode_note(RailGoneNote{2})).value()).rail, 2);
}

TEST(SetupNote, cut_or_longer_it_is_none) {
  for (const SetupNote& note : every_kind()) {
    std::vector<std::byte> bytes = encode_note(note);
    const bool open_ended = std::holds_alternative<RefusedNote>(note);  // its words end with it
    for (size_t length = 0; length < bytes.size(); ++length) {
      const auto cut = decode_note(std::span(bytes).first(length));
      EXPECT_EQ(cut.ok(), open_ended && length >= 3) << length << " of " << bytes.size();
    }
    bytes.push_back(std::byte{7});
    EXPECT_EQ(decode_note(bytes).ok(), open_ended);
  }
}

TEST(SetupNote, fewer_rails_than_it_counts_are_refused) {
  std::vector<std::byte> bytes = encode_note(ConnectNote{{rail_of(1, 8)}});
  bytes[2] = std::byte{2};
  EXPECT_EQ(decode_note(bytes).status().code(), StatusCode::kInvalidArgument);
}

TEST(SetupNote, another_version_says_so) {
  std::vector<std::byte> bytes = encode_note(RailLostNote{1});
  bytes[0] = std::byte{2};
  EXPECT_EQ(decode_note(bytes).status().code(), StatusCode::kUnsupported);
}

TEST(SetupNote, what_no_port_has_is_refused) {
  const auto refused = [](auto change) {
    RailAddress rail = rail_of(1, 1);
    change(rail);
    return decode_note(encode_note(ConnectNote{{rail}})).status().code() ==
           StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.port.mtu = 1500; }));
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.port.mtu = 8192; }));
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.port.mtu = 0; }));
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.port.kind = static_cast<LinkKind>(4); }));
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.queues.clear(); }));
  EXPECT_TRUE(refused([](RailAddress& rail) { rail.queues.resize(kLanesMost + 1); }));
  EXPECT_FALSE(refused([](RailAddress& rail) { rail.queues.resize(kLanesMost); }));
  EXPECT_FALSE(decode_note(encode_note(ConnectNote{{}})).ok());
  EXPECT_FALSE(decode_note(encode_note(AcceptedNote{0, {rail_of(1, 1)}})).ok());
}

TEST(SetupNote, a_refusal_cannot_forge_a_line_of_the_log) {
  const SetupNote note = decode_note(encode_note(RefusedNote{unavailable("one\ntwo")})).value();
  EXPECT_EQ(std::get<RefusedNote>(note).status.message(), "the peer refuses: one?two");
}

}  // namespace
}  // namespace mempool
