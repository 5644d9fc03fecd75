// SPDX-License-Identifier: Apache-2.0
// Tests what the ucx backend takes from a peer that seals what it likes.
#include "transport/ucx/ucx_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

namespace mempool {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPeer = 0xb2;
constexpr uint32_t kRegion = 7;

// What UCX packs for memory domains of which each has a key of so many bytes.
std::vector<std::byte> packed(uint64_t domains, const std::vector<uint8_t>& lengths) {
  std::vector<std::byte> bytes(sizeof domains + 1);
  std::memcpy(bytes.data(), &domains, sizeof domains);
  for (const uint8_t length : lengths) {
    bytes.push_back(std::byte{length});
    bytes.insert(bytes.end(), length, std::byte{0xee});
  }
  return bytes;
}

Result<UcxKey> sent(const std::vector<std::byte>& key) {
  return decode_ucx_key(encode_ucx_key({kPeer, kRegion, 4096, 0x1000, key}).value(), kPeer,
                        kRegion);
}

TEST(UcxWire, a_key_arrives_with_zeros_behind_it) {
  const std::vector<std::byte> key = packed(0b1001, {8, 0});
  const Result<UcxKey> arrived = sent(key);
  ASSERT_TRUE(arrived.ok()) << arrived.status().to_string();
  EXPECT_EQ(arrived->bytes, 4096u);
  EXPECT_EQ(arrived->base, 0x1000u);
  std::vector<std::byte> expected = key;
  expected.resize(key.size() + kUcxSlackBytes);
  EXPECT_EQ(arrived->key, expected);
}

TEST(UcxWire, a_sealed_key_that_names_more_than_it_has_is_refused) {
  const std::vector<std::byte> whole = packed(0b11, {8, 12});
  for (size_t bytes = 1; bytes < whole.size(); ++bytes) {
    const Status why = sent({whole.begin(), whole.begin() + bytes}).status();
    EXPECT_EQ(why.code(), StatusCode::kInvalidArgument) << bytes;
  }
  EXPECT_TRUE(sent(whole).ok());
  EXPECT_EQ(sent(packed(0b111, {8, 12})).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(sent(packed(UINT64_MAX, {})).status().code(), StatusCode::kInvalidArgument);
}

TEST(UcxWire, a_key_of_memory_that_is_not_the_hosts_is_refused) {
  std::vector<std::byte> key = packed(0b1, {8});
  key[sizeof(uint64_t)] = std::byte{0xff};
  EXPECT_EQ(sent(key).status().code(), StatusCode::kInvalidArgument);
}

TEST(UcxWire, an_address_arrives_with_zeros_behind_it) {
  const std::vector<std::byte> address(100, std::byte{0xaa});
  const Result<std::vector<std::byte>> arrived = decode_worker_note(encode_worker_address(address));
  ASSERT_TRUE(arrived.ok());
  std::vector<std::byte> expected = address;
  expected.resize(address.size() + kUcxSlackBytes);
  EXPECT_EQ(*arrived, expected);
}

TEST(UcxWire, a_refusal_arrives_in_the_peers_words_made_readable) {
  const Status why =
      decode_worker_note(encode_worker_refusal(unavailable("no \x1b[31mroom\n"))).status();
  EXPECT_EQ(why.code(), StatusCode::kUnavailable);
  EXPECT_EQ(why.message(), "the peer refuses: no ?[31mroom?");
  const std::string endless(5000, 'x');
  EXPECT_LT(
      decode_worker_note(encode_worker_refusal(unavailable(endless))).status().message().size(),
      600u);
}

TEST(UcxWire, a_note_that_was_changed_anywhere_is_refused) {
  const std::vector<std::byte> note = encode_worker_address(std::vector(20, std::byte{1}));
  for (size_t i = 0; i < note.size(); ++i) {
    std::vector<std::byte> changed = note;
    changed[i] ^= std::byte{1};
    EXPECT_EQ(decode_worker_note(changed).status().code(), StatusCode::kInvalidArgument) << i;
    changed.resize(i);
    EXPECT_EQ(decode_worker_note(changed).status().code(), StatusCode::kInvalidArgument) << i;
  }
}

}  // namespace
}  // namespace mempool
