// SPDX-License-Identifier: Apache-2.0
// Owns the checks of what strangers and broken peers get from an agent's control port.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include "agent/wire.h"
#include "core/auth.h"
#include "core/listen_socket.h"
#include "mempool/agent.h"
#include "tests/agent/agent_pair.h"

namespace mempool {
namespace {

using testing::filled_blocks;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

/// A plain socket to an agent's control port, as a stranger has it.
class RawPeer {
 public:
  explicit RawPeer(const std::string& address) {
    std::string host;
    uint16_t port = 0;
    EXPECT_TRUE(split_address(address, host, port).ok());
    descriptor_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    inet_pton(AF_INET, host.c_str(), &where.sin_addr);
    EXPECT_EQ(connect(descriptor_, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
  }
  ~RawPeer() { close(descriptor_); }

  void send_bytes(std::span<const std::byte> bytes) {
    EXPECT_EQ(::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void send_frame(const Frame& frame) { send_bytes(encode(frame)); }
  /// Give the next frame, or why there is none (kUnavailable when the agent hung up).
  Result<Frame> read_frame() {
    std::byte word[4];
    if (!read_bytes(word)) return unavailable("closed");
    uint32_t bytes = 0;
    std::memcpy(&bytes, word, 4);
    std::vector<std::byte> body(bytes);
    if (!read_bytes(body)) return unavailable("closed");
    return decode(body);
  }
  /// Tell whether the agent hangs up, whatever it says before.
  bool is_closed() {
    std::byte byte;
    while (read_bytes({&byte, 1})) {
    }
    return closed_;
  }

 private:
  bool read_bytes(std::span<std::byte> out) {
    for (size_t have = 0; have < out.size();) {
      pollfd wait{descriptor_, POLLIN, 0};
      if (poll(&wait, 1, 10000) != 1) return false;
      const ssize_t count = recv(descriptor_, out.data() + have, out.size() - have, 0);
      closed_ = count <= 0;
      if (closed_) return false;
      have += static_cast<size_t>(count);
    }
    return true;
  }

  int descriptor_ = -1;
  bool closed_ = false;
};

class ControlPlaneTest : public ::testing::Test {
 protected:
  void SetUp() override {
    AgentOptions options = small_options("target");
    options.token = "secret";
    agent_ = start_agent(options);
    ASSERT_NE(agent_, nullptr);
    address_ = agent_->status().listen;
  }
  void TearDown() override {
    // Whatever came, the agent still serves, and has lost nothing.
    EXPECT_TRUE(wait_until([this] { return all_are_back(); }));
    EXPECT_TRUE(agent_->status().audit.ok()) << agent_->status().audit.to_string();
    EXPECT_TRUE(agent_->alloc(64).ok());
  }
  bool all_are_back() const { return agent_->status().blocks.at("free") == 64; }
  /// Shake hands as a peer that knows the token.
  Result<Welcome> shake_hands(RawPeer& peer, uint64_t incarnation, const std::string& token) {
    Hello hello;
    hello.name = "raw";
    hello.incarnation = incarnation;
    hello.nonce = make_nonce();
    peer.send_frame(hello);
    auto reply = peer.read_frame();
    if (!reply.ok()) return reply.status();
    const auto& theirs = std::get<HelloReply>(*reply);
    const Challenge challenge{incarnation, theirs.incarnation, hello.nonce, theirs.nonce};
    EXPECT_TRUE(check_proof("secret", "control", challenge, ProofRole::kAcceptor, theirs.proof));
    Introduction introduction;
    introduction.proof = make_proof(token, "control", challenge, ProofRole::kDialer);
    introduction.model = make_content(small_spec())->model;
    peer.send_frame(introduction);
    auto answer = peer.read_frame();
    if (!answer.ok()) return answer.status();
    if (const auto* refusal = std::get_if<Refusal>(&*answer)) return refusal->status;
    return std::get<Welcome>(*answer);
  }
  Offer small_offer(uint64_t number) {
    Offer offer;
    offer.number = number;
    offer.deadline_ms = 10000;
    offer.content = *make_content(small_spec());
    offer.tokens = make_tokens(8);
    return offer;
  }
  template <typename T>
  T expect_message(RawPeer& peer) {
    while (true) {
      auto frame = peer.read_frame();
      EXPECT_TRUE(frame.ok()) << frame.status().to_string();
      if (!frame.ok()) return {};
      const auto& message = std::get<Message>(*frame);
      if (const auto* wanted = std::get_if<T>(&message)) return *wanted;
    }
  }

  std::unique_ptr<Agent> agent_;
  std::string address_;
};

TEST_F(ControlPlaneTest, a_frame_larger_than_a_handshake_may_be_is_refused_unread) {
  RawPeer peer(address_);
  const uint32_t huge = 1u << 30;
  peer.send_bytes(std::as_bytes(std::span(&huge, 1)));
  EXPECT_TRUE(peer.is_closed());
}

TEST_F(ControlPlaneTest, bytes_that_are_no_frame_end_the_connection) {
  RawPeer peer(address_);
  std::vector<std::byte> noise(68, std::byte{0x5a});
  const uint32_t length = 64;
  std::memcpy(noise.data(), &length, 4);
  peer.send_bytes(noise);
  EXPECT_TRUE(peer.is_closed());
}

TEST_F(ControlPlaneTest, a_hello_of_a_version_nobody_speaks_is_refused_with_both_versions) {
  RawPeer peer(address_);
  Hello hello;
  hello.name = "raw";
  hello.incarnation = 5;
  hello.version = 900;
  hello.version_oldest = 900;
  peer.send_frame(hello);
  const auto answer = peer.read_frame();
  ASSERT_TRUE(answer.ok()) << answer.status().to_string();
  const auto* refusal = std::get_if<Refusal>(&*answer);
  ASSERT_NE(refusal, nullptr);
  EXPECT_EQ(refusal->status.code(), StatusCode::kUnsupported);
  EXPECT_NE(refusal->status.message().find("900"), std::string_view::npos);
}

TEST_F(ControlPlaneTest, a_wrong_token_is_refused) {
  RawPeer peer(address_);
  EXPECT_EQ(shake_hands(peer, 5, "guess").status().code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(peer.is_closed());
}

TEST_F(ControlPlaneTest, an_offer_before_the_handshake_ends_the_connection) {
  RawPeer peer(address_);
  peer.send_frame(Message(small_offer(1)));
  EXPECT_TRUE(peer.is_closed());
  EXPECT_EQ(agent_->status().blocks.at("reserved"), 0u);
}

TEST_F(ControlPlaneTest, the_same_offer_twice_reserves_once) {
  RawPeer peer(address_);
  ASSERT_TRUE(shake_hands(peer, 5, "secret").ok());
  peer.send_frame(Message(small_offer(1)));
  const auto first = expect_message<OfferReply>(peer);
  peer.send_frame(Message(small_offer(1)));
  const auto second = expect_message<OfferReply>(peer);
  EXPECT_EQ(first.reserved, second.reserved);
  EXPECT_EQ(agent_->status().blocks.at("reserved"), 2u);
  peer.send_frame(Message(Cancel{1}));
  expect_message<CancelReply>(peer);
  peer.send_frame(Message(small_offer(1)));
  expect_message<CancelReply>(peer);  // the answer that is remembered
  EXPECT_EQ(agent_->status().blocks.at("reserved"), 0u);
}

TEST_F(ControlPlaneTest, a_commit_without_its_data_is_not_published) {
  RawPeer peer(address_);
  ASSERT_TRUE(shake_hands(peer, 5, "secret").ok());
  const Offer offer = small_offer(1);
  peer.send_frame(Message(offer));
  ASSERT_TRUE(expect_message<OfferReply>(peer).status.ok());
  peer.send_frame(Message(Commit{1, 0, {}}));
  peer.send_frame(Message(Commit{2, 1, {}}));
  EXPECT_EQ(expect_message<CommitReply>(peer).number, 2u);  // of no transfer; 1 still waits
  EXPECT_EQ(agent_->match({offer.content, offer.tokens}).tokens, 0u);
}

TEST_F(ControlPlaneTest, a_peer_that_hangs_up_leaves_nothing_reserved) {
  {
    RawPeer peer(address_);
    ASSERT_TRUE(shake_hands(peer, 5, "secret").ok());
    peer.send_frame(Message(small_offer(1)));
    ASSERT_TRUE(expect_message<OfferReply>(peer).status.ok());
    EXPECT_EQ(agent_->status().blocks.at("reserved"), 2u);
  }
  EXPECT_TRUE(wait_until([this] { return all_are_back(); }));
}

TEST_F(ControlPlaneTest, offers_that_ask_for_what_is_not_here_are_refused_one_by_one) {
  RawPeer peer(address_);
  ASSERT_TRUE(shake_hands(peer, 5, "secret").ok());
  Offer offer = small_offer(1);
  offer.tokens = make_tokens(65 * 4);
  peer.send_frame(Message(offer));
  EXPECT_EQ(expect_message<OfferReply>(peer).status.code(), StatusCode::kResourceExhausted);
  offer = small_offer(2);
  offer.medium = Medium::kDevice;
  peer.send_frame(Message(offer));
  EXPECT_EQ(expect_message<OfferReply>(peer).status.code(), StatusCode::kUnsupported);
  offer = small_offer(3);
  offer.content.model.words[0] ^= 1;
  peer.send_frame(Message(offer));
  EXPECT_EQ(expect_message<OfferReply>(peer).status.code(), StatusCode::kInvalidArgument);
  offer = small_offer(4);
  offer.tokens.clear();
  peer.send_frame(Message(offer));
  EXPECT_EQ(expect_message<OfferReply>(peer).status.code(), StatusCode::kInvalidArgument);
}

TEST_F(ControlPlaneTest, a_handshake_frame_on_an_open_session_ends_it) {
  RawPeer peer(address_);
  ASSERT_TRUE(shake_hands(peer, 5, "secret").ok());
  peer.send_frame(Hello{});
  EXPECT_TRUE(peer.is_closed());
}

}  // namespace
}  // namespace mempool
