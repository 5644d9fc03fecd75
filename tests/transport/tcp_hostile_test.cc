// SPDX-License-Identifier: Apache-2.0
// Tests the tcp backend against peers that break the rules: over bare sockets, byte by byte. The
// backend must refuse, say why, write nothing and go on serving others.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tests/transport/transport_node.h"
#include "transport/little_endian.h"
#include "transport/tcp/frame.h"
#include "transport/hello.h"
#include "transport/proven_listener.h"
#include "transport/tcp/tcp_options.h"

namespace mempool {
namespace {

constexpr uint64_t kNodeId = 0xb2;
constexpr uint64_t kRawId = 0xa1;
constexpr uint64_t kFriendId = 0xc3;
constexpr Slot kSlot{3, 1};
constexpr std::string_view kPurpose = "data:tcp";

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A bare socket against a node that the test runs meanwhile. Thread: confined.
class RawPeer {
 public:
  RawPeer(TransportNode& node, int descriptor) : node_(node), descriptor_(descriptor) {}
  RawPeer(RawPeer&& other) noexcept
      : node_(other.node_), descriptor_(std::exchange(other.descriptor_, -1)) {}
  ~RawPeer() { hang_up(); }

  static RawPeer dial(TransportNode& node, uint16_t port) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = loopback(port);
    EXPECT_EQ(::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    return {node, descriptor};
  }

  void hang_up() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  void send(std::span<const std::byte> bytes) {
    EXPECT_EQ(::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  /// Wait for exactly this many bytes. Empty when the node closes first.
  std::vector<std::byte> receive(size_t count) {
    std::vector<std::byte> bytes;
    run_until({&node_}, [&] {
      std::byte one[256];
      const ssize_t got =
          ::recv(descriptor_, one, std::min(sizeof one, count - bytes.size()), MSG_DONTWAIT);
      if (got > 0) bytes.insert(bytes.end(), one, one + got);
      closed_ = got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
      return closed_ || bytes.size() == count;
    });
    if (bytes.size() < count) bytes.clear();
    return bytes;
  }
  /// Wait until the node closes, whatever it sends before.
  bool is_closed_by_node() {
    while (!closed_ && !receive(1).empty()) {
    }
    return closed_;
  }

 private:
  TransportNode& node_;
  int descriptor_;
  bool closed_ = false;
};

class TcpHostile : public testing::Test {
 protected:
  TcpHostile() { start({}); }

  void start(std::map<std::string, std::string> options) {
    node_.reset();
    NodeOptions node_options;
    node_options.transport = "tcp";
    node_options.incarnation = kNodeId;
    node_options.token = kToken;
    node_options.options = std::move(options);
    node_ = std::make_unique<TransportNode>(node_options);
    EXPECT_TRUE(node_->transport().open_slot(kRawId, kSlot).ok());
    EXPECT_TRUE(node_->transport().open_slot(kFriendId, kSlot).ok());
  }

  uint16_t port() {
    const std::vector<std::byte> address = node_->transport().address_for(kRawId).value();
    LittleEndianReader reader(address.data());
    EXPECT_EQ(reader.get<uint64_t>(), kNodeId);
    return reader.get<uint16_t>();
  }

  RawPeer dial() { return RawPeer::dial(*node_, port()); }

  // Send a hello and the proof for it, and give the verdict.
  Verdict greet(RawPeer& peer, const TcpHello& hello, std::string_view token) {
    peer.send(encode_hello(hello));
    const std::vector<std::byte> answered = peer.receive(kAnswerBytes);
    if (answered.empty()) return Verdict::kVersion;
    const Answer answer = decode_answer(std::span(answered).first<kAnswerBytes>()).value();
    if (answer.verdict != Verdict::kWelcome) return answer.verdict;
    const Challenge challenge{hello.dialer, hello.acceptor, hello.nonce, answer.nonce};
    last_proof_ = make_proof(token, kPurpose, challenge, ProofRole::kDialer);
    peer.send(last_proof_);
    const std::vector<std::byte> welcomed = peer.receive(kWelcomeBytes);
    if (welcomed.empty()) return Verdict::kProof;
    const TcpWelcome welcome = decode_welcome(std::span(welcomed).first<kWelcomeBytes>()).value();
    if (welcome.verdict == Verdict::kWelcome) {
      EXPECT_TRUE(check_proof(kToken, kPurpose, challenge, ProofRole::kAcceptor, welcome.proof));
    }
    return welcome.verdict;
  }

  RawPeer dial_and_prove() {
    RawPeer peer = dial();
    EXPECT_EQ(greet(peer, {kRawId, kNodeId, 1, make_nonce()}, kToken), Verdict::kWelcome);
    return peer;
  }

  static std::vector<std::byte> frame(FrameHeader header, const std::vector<FrameRange>& ranges,
                                      size_t payload) {
    header.ranges = static_cast<uint32_t>(ranges.size());
    std::vector<std::byte> bytes(kFrameHeaderBytes + ranges.size() * kFrameRangeBytes);
    encode_frame_header(header, bytes.data());
    for (size_t i = 0; i < ranges.size(); ++i) {
      encode_frame_range(ranges[i], bytes.data() + kFrameHeaderBytes + i * kFrameRangeBytes);
    }
    bytes.resize(bytes.size() + payload, std::byte{0x5a});
    return bytes;
  }
  static std::vector<std::byte> write(uint32_t region, uint64_t offset, uint32_t bytes,
                                      Slot slot = kSlot) {
    return frame({FrameType::kWrite, false, slot, 0, 1, bytes}, {{region, offset, bytes}}, bytes);
  }

  // The node must have lost the raw peer for this reason, and written nothing.
  void expect_refusal(RawPeer& peer, StatusCode code, std::string_view words) {
    EXPECT_TRUE(peer.is_closed_by_node());
    ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->lost.empty(); }));
    EXPECT_EQ(node_->lost.back().code(), code);
    EXPECT_NE(node_->lost.back().message().find(words), std::string_view::npos)
        << node_->lost.back().to_string();
    EXPECT_TRUE(std::all_of(node_->memory().begin(), node_->memory().end(),
                            [](std::byte byte) { return byte == std::byte{0}; }));
  }

  // A well-behaved peer is served as ever.
  void expect_service() {
    NodeOptions options;
    options.transport = "tcp";
    options.incarnation = kFriendId;
    options.token = kToken;
    TransportNode other(options);
    std::fill(other.memory().begin(), other.memory().end(), std::byte{0x77});
    const std::unique_ptr<Endpoint> endpoint = other.connect(*node_);
    ASSERT_NE(endpoint, nullptr);
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 500, 100};
    ASSERT_TRUE(endpoint->post({Operation::kWrite, kSlot, 1, {&pair, 1}}).ok());
    ASSERT_TRUE(endpoint->notify(kSlot, 2).ok());
    ASSERT_TRUE(run_until({node_.get(), &other}, [&] { return !node_->notified.empty(); }));
    EXPECT_EQ(node_->memory()[500], std::byte{0x77});
    EXPECT_EQ(node_->memory()[599], std::byte{0x77});
  }

  static constexpr const char* kToken = "the token";
  std::unique_ptr<TransportNode> node_;
  Proof last_proof_{};
};

TEST_F(TcpHostile, noise_instead_of_a_hello_is_closed) {
  RawPeer peer = dial();
  peer.send(std::vector<std::byte>(kHelloBytes, std::byte{0x47}));
  EXPECT_TRUE(peer.is_closed_by_node());
  EXPECT_TRUE(node_->lost.empty()) << "nobody is known by that name";
  expect_service();
}

TEST_F(TcpHostile, a_hello_cut_short_is_closed) {
  {
    RawPeer peer = dial();
    const auto hello = encode_hello({kRawId, kNodeId, 1, {}});
    peer.send(std::span(hello).first(20));
  }
  expect_service();
}

TEST_F(TcpHostile, another_version_is_told_so) {
  RawPeer peer = dial();
  auto hello = encode_hello({kRawId, kNodeId, 1, make_nonce()});
  hello[4] = std::byte{99};
  peer.send(hello);
  const std::vector<std::byte> answered = peer.receive(kAnswerBytes);
  ASSERT_FALSE(answered.empty());
  EXPECT_EQ(decode_answer(std::span(answered).first<kAnswerBytes>())->verdict, Verdict::kVersion);
  EXPECT_TRUE(peer.is_closed_by_node());
  expect_service();
}

TEST_F(TcpHostile, another_incarnation_is_told_so) {
  RawPeer peer = dial();
  EXPECT_EQ(greet(peer, {kRawId, kNodeId + 1, 1, make_nonce()}, kToken), Verdict::kIncarnation);
  EXPECT_TRUE(peer.is_closed_by_node());
  expect_service();
}

TEST_F(TcpHostile, a_wrong_proof_is_told_so_and_gets_none_back) {
  RawPeer peer = dial();
  EXPECT_EQ(greet(peer, {kRawId, kNodeId, 1, make_nonce()}, "a guess"), Verdict::kProof);
  EXPECT_TRUE(peer.is_closed_by_node());
  EXPECT_TRUE(node_->lost.empty());
  expect_service();
}

TEST_F(TcpHostile, a_proof_of_another_connection_is_worth_nothing) {
  const TcpHello hello{kRawId, kNodeId, 1, make_nonce()};
  RawPeer honest = dial();
  ASSERT_EQ(greet(honest, hello, kToken), Verdict::kWelcome);
  RawPeer replay = dial();
  replay.send(encode_hello(hello));
  ASSERT_FALSE(replay.receive(kAnswerBytes).empty());
  replay.send(last_proof_);
  const std::vector<std::byte> welcomed = replay.receive(kWelcomeBytes);
  ASSERT_FALSE(welcomed.empty());
  EXPECT_EQ(decode_welcome(std::span(welcomed).first<kWelcomeBytes>())->verdict, Verdict::kProof);
  EXPECT_TRUE(replay.is_closed_by_node());
}

TEST_F(TcpHostile, frames_before_the_proof_are_no_proof) {
  RawPeer peer = dial();
  peer.send(write(TransportNode::kRegion, 0, 100));
  EXPECT_TRUE(peer.is_closed_by_node());
  EXPECT_EQ(node_->memory()[0], std::byte{0});
  expect_service();
}

TEST_F(TcpHostile, a_silent_peer_is_closed_after_the_handshakes_time) {
  start({{"handshake_timeout_ms", "500"}});
  RawPeer peer = dial();
  EXPECT_TRUE(peer.is_closed_by_node());
  expect_service();
}

TEST_F(TcpHostile, only_so_many_may_stay_unproven) {
  std::vector<RawPeer> crowd;
  for (uint32_t i = 0; i < kUnprovenMax; ++i) {
    crowd.push_back(dial());
    crowd.back().send(encode_hello({kRawId, kNodeId, 1, make_nonce()}));
    ASSERT_FALSE(crowd.back().receive(kAnswerBytes).empty()) << i;
  }
  RawPeer late = dial();
  EXPECT_TRUE(late.is_closed_by_node());
  crowd.clear();
  settle({node_.get()});
  expect_service();
}

struct BadFrame {
  const char* name;
  StatusCode code;
  const char* words;
  std::vector<std::byte> bytes;
};

TEST_F(TcpHostile, each_malformed_frame_ends_its_connection_with_the_reason) {
  constexpr auto kInvalid = StatusCode::kInvalidArgument;
  constexpr auto kDenied = StatusCode::kPermissionDenied;
  const uint64_t size = node_->memory().size();
  std::vector<std::byte> magic = write(7, 0, 100);
  magic[0] ^= std::byte{1};
  std::vector<std::byte> version = write(7, 0, 100);
  version[4] = std::byte{200};
  std::vector<std::byte> type = write(7, 0, 100);
  type[5] = std::byte{77};
  std::vector<std::byte> ranges = write(7, 0, 100);
  ranges[27] = std::byte{0xff};
  std::vector<std::byte> bytes = write(7, 0, 100);
  bytes[31] = std::byte{0x7f};
  const BadFrame cases[] = {
      {"magic", kInvalid, "magic", magic},
      {"version", kInvalid, "version 200", version},
      {"type", kInvalid, "type 77", type},
      {"ranges", kInvalid, "oversized", ranges},
      {"bytes", kInvalid, "oversized", bytes},
      {"sum", kInvalid, "100 bytes in all",
       frame({FrameType::kWrite, false, kSlot, 0, 1, 101}, {{7, 0, 100}}, 101)},
      {"empty range", kInvalid, "empty",
       frame({FrameType::kWrite, false, kSlot, 0, 2, 100}, {{7, 0, 100}, {7, 9, 0}}, 100)},
      {"reply", kInvalid, "not for a target",
       frame({FrameType::kReadReply, false, kSlot, 0, 0, 10}, {}, 10)},
      {"end", kInvalid, "not for a target", frame({FrameType::kReadEnd, false, kSlot}, {}, 0)},
      {"no region", kDenied, "region 8", write(8, 0, 100)},
      {"past the end", kDenied, "not registered", write(7, size - 99, 100)},
      {"wrapping", kDenied, "not registered", write(7, UINT64_MAX - 50, 100)},
      {"second range", kDenied, "not registered",
       frame({FrameType::kWrite, false, kSlot, 0, 2, 110}, {{7, 0, 100}, {7, size, 10}}, 110)},
      {"read outside", kDenied, "not registered",
       frame({FrameType::kRead, false, kSlot, 0, 1, 100}, {{7, size, 100}}, 0)},
  };
  for (const BadFrame& bad : cases) {
    SCOPED_TRACE(bad.name);
    node_->lost.clear();
    RawPeer peer = dial_and_prove();
    peer.send(bad.bytes);
    expect_refusal(peer, bad.code, bad.words);
  }
  expect_service();
}

TEST_F(TcpHostile, a_frame_cut_short_loses_the_connection) {
  RawPeer peer = dial_and_prove();
  const std::vector<std::byte> bytes = write(TransportNode::kRegion, 0, 1000);
  peer.send(std::span(bytes).first(500));
  settle({node_.get()});
  peer.hang_up();
  ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->lost.empty(); }));
  EXPECT_EQ(node_->lost[0].code(), StatusCode::kUnavailable);
  EXPECT_NE(node_->lost[0].message().find("middle of a frame"), std::string_view::npos);
  expect_service();
}

TEST_F(TcpHostile, a_frame_for_another_slot_or_generation_lands_nowhere) {
  RawPeer peer = dial_and_prove();
  for (const Slot slot : {Slot{kSlot.index, 2}, Slot{kSlot.index, 0}, Slot{99, 1}}) {
    peer.send(write(TransportNode::kRegion, 0, 1000, slot));
  }
  peer.send(write(TransportNode::kRegion, 2000, 10));
  peer.send(frame({FrameType::kNotify, false, kSlot}, {}, 0));
  ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->notified.empty(); }));
  EXPECT_EQ(node_->memory()[0], std::byte{0});
  EXPECT_EQ(node_->memory()[999], std::byte{0});
  EXPECT_EQ(node_->memory()[2000], std::byte{0x5a});
  EXPECT_TRUE(node_->lost.empty());
}

TEST_F(TcpHostile, another_peers_open_slot_is_not_this_ones) {
  node_->transport().close_slot(kRawId, kSlot);  // the friend's stays open
  RawPeer peer = dial_and_prove();
  peer.send(write(TransportNode::kRegion, 0, 1000));
  peer.send(frame({FrameType::kNotify, false, kSlot}, {}, 0));
  settle({node_.get()});
  expect_service();
  EXPECT_EQ(node_->memory()[0], std::byte{0});
  EXPECT_EQ(node_->notified.size(), 1u) << "the friend's";
}

TEST_F(TcpHostile, more_reads_at_once_than_agreed_end_the_connection) {
  RawPeer peer = dial_and_prove();
  const uint32_t bytes = 1 << 20;
  for (uint32_t i = 0; i < 3 * kTcpCallsInFlight; ++i) {
    peer.send(frame({FrameType::kRead, false, kSlot, i, 1, bytes}, {{7, 0, bytes}}, 0));
  }
  ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->lost.empty(); }));
  EXPECT_NE(node_->lost[0].message().find("more reads"), std::string_view::npos);
  expect_service();
}

// The other way round: the node dials a listener that breaks the rules.
class TcpHostileAcceptor : public TcpHostile {
 protected:
  TcpHostileAcceptor() {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 8), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    std::vector<std::byte> bytes(10);
    LittleEndianWriter(bytes.data()).put(kRawId).put(uint16_t{ntohs(address.sin_port)});
    node_->transport().connect(kRawId, "127.0.0.1", bytes,
                               [this](Result<std::unique_ptr<Endpoint>> connected) {
                                 done_ = true;
                                 status_ = connected.status();
                                 if (connected.ok()) endpoint_ = std::move(connected).value();
                               });
  }
  ~TcpHostileAcceptor() override {
    endpoint_.reset();
    ::close(listener_);
  }

  RawPeer accept() {
    settle({node_.get()});
    return {*node_, ::accept(listener_, nullptr, nullptr)};
  }

  // Answer the node's hello and give the challenge; then take its proof.
  Challenge answer(RawPeer& peer, uint64_t incarnation = kRawId) {
    const std::vector<std::byte> bytes = peer.receive(kHelloBytes);
    const TcpHello hello = decode_hello(std::span(bytes).first<kHelloBytes>()).value();
    const Challenge challenge{hello.dialer, kRawId, hello.nonce, make_nonce()};
    peer.send(encode_answer({Verdict::kWelcome, incarnation, challenge.acceptor_nonce}));
    return challenge;
  }
  void welcome(RawPeer& peer, const Challenge& challenge, std::string_view token) {
    EXPECT_EQ(peer.receive(sizeof(Proof)).size(), sizeof(Proof));
    peer.send(encode_welcome(
        {Verdict::kWelcome, make_proof(token, kPurpose, challenge, ProofRole::kAcceptor)}));
  }
  Status connected() {
    EXPECT_TRUE(run_until({node_.get()}, [&] { return done_; }));
    return status_;
  }

  // Connect by the rules and post a read of 100 bytes; gives its header as it came.
  FrameHeader post_read(RawPeer& peer) {
    welcome(peer, answer(peer), kToken);
    EXPECT_TRUE(connected().ok());
    std::vector<std::byte> key(20);
    LittleEndianWriter(key.data()).put(kRawId).put(uint32_t{1}).put(uint64_t{1000});
    EXPECT_TRUE(endpoint_->import_key(1, key).ok());
    const RunPair pair{TransportNode::kRegion, 1, 0, 0, 100};
    EXPECT_TRUE(endpoint_->post({Operation::kRead, kSlot, 5, {&pair, 1}}).ok());
    const std::vector<std::byte> bytes = peer.receive(kFrameHeaderBytes + kFrameRangeBytes);
    return decode_frame_header(std::span(bytes).first<kFrameHeaderBytes>()).value();
  }

  int listener_ = -1;
  bool done_ = false;
  Status status_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(TcpHostileAcceptor, an_acceptor_without_the_token_is_refused) {
  RawPeer peer = accept();
  welcome(peer, answer(peer), "a guess");
  EXPECT_EQ(connected().code(), StatusCode::kPermissionDenied);
}

TEST_F(TcpHostileAcceptor, an_acceptor_of_another_incarnation_is_refused) {
  RawPeer peer = accept();
  answer(peer, kRawId + 1);
  EXPECT_EQ(connected().code(), StatusCode::kStale);
}

TEST_F(TcpHostileAcceptor, noise_instead_of_an_answer_is_refused) {
  RawPeer peer = accept();
  peer.send(std::vector<std::byte>(kAnswerBytes, std::byte{0x48}));
  EXPECT_EQ(connected().code(), StatusCode::kInvalidArgument);
}

TEST_F(TcpHostileAcceptor, an_acceptor_that_hangs_up_is_unavailable) {
  accept().hang_up();
  EXPECT_EQ(connected().code(), StatusCode::kUnavailable);
}

TEST_F(TcpHostileAcceptor, a_reply_nobody_asked_for_lands_nowhere_and_ends_the_connection) {
  RawPeer peer = accept();
  FrameHeader reply = post_read(peer);
  reply.type = FrameType::kReadReply;
  reply.tag += 1;
  peer.send(frame(reply, {}, 100));
  expect_refusal(peer, StatusCode::kInvalidArgument, "not asked for");
  EXPECT_EQ(node_->completion_of(5).code(), StatusCode::kUnavailable);
}

TEST_F(TcpHostileAcceptor, a_reply_of_another_size_or_slot_ends_the_connection) {
  RawPeer peer = accept();
  FrameHeader reply = post_read(peer);
  reply.type = FrameType::kReadReply;
  reply.bytes = 101;
  peer.send(frame(reply, {}, 101));
  expect_refusal(peer, StatusCode::kInvalidArgument, "not asked for");
}

TEST_F(TcpHostileAcceptor, a_read_that_ends_without_its_bytes_ends_the_connection) {
  RawPeer peer = accept();
  FrameHeader end = post_read(peer);
  end.type = FrameType::kReadEnd;
  end.bytes = 0;
  peer.send(frame(end, {}, 0));
  expect_refusal(peer, StatusCode::kInvalidArgument, "without its bytes");
  EXPECT_EQ(node_->completion_of(5).code(), StatusCode::kUnavailable);
}

TEST_F(TcpHostileAcceptor, a_read_answered_twice_ends_the_connection) {
  RawPeer peer = accept();
  FrameHeader header = post_read(peer);
  header.type = FrameType::kReadReply;
  peer.send(frame(header, {}, 100));
  peer.send(frame(header, {}, 100));
  EXPECT_TRUE(peer.is_closed_by_node());
  ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->lost.empty(); }));
  EXPECT_EQ(node_->completion_of(5).code(), StatusCode::kUnavailable);
}

TEST_F(TcpHostileAcceptor, a_write_to_the_dialer_is_not_its_business) {
  RawPeer peer = accept();
  post_read(peer);
  peer.send(write(TransportNode::kRegion, 0, 100));
  expect_refusal(peer, StatusCode::kInvalidArgument, "not asked for");
}

TEST(TcpTransportOpen, a_bind_beyond_loopback_needs_a_token) {
  TransportNode node({.transport = "tcp"});
  TransportContext context = node.context();
  context.bind_host = "0.0.0.0";
  context.token = "";
  EXPECT_EQ(test_registry().open("tcp", context).status().code(), StatusCode::kPermissionDenied);
  context.token = "a token";
  EXPECT_TRUE(test_registry().open("tcp", context).ok());
}

TEST(TcpTransportOpen, bad_options_and_hosts_name_themselves) {
  TransportNode node({.transport = "tcp"});
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"streams", "0"},
                                          {"port", "65536"},
                                          {"send_buffer", "many"},
                                          {"port", "12x"},
                                          {"receive_buffer", "-1"},
                                          {"handshake_timeout_ms", ""}}) {
    TransportContext context = node.context();
    context.options = {{key, value}};
    const Status status = test_registry().open("tcp", context).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << key;
    EXPECT_NE(status.message().find(key), std::string_view::npos) << status.to_string();
  }
  TransportContext context = node.context();
  context.bind_host = "no such host";
  EXPECT_FALSE(test_registry().open("tcp", context).ok());
}

TEST(TcpTransportOpen, a_port_that_is_taken_is_unavailable) {
  TransportNode node({.transport = "tcp"});
  const std::vector<std::byte> address = node.transport().address_for(1).value();
  LittleEndianReader reader(address.data());
  reader.get<uint64_t>();
  TransportContext context = node.context();
  context.options = {{"port", std::to_string(reader.get<uint16_t>())}};
  EXPECT_EQ(test_registry().open("tcp", context).status().code(), StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mempool
