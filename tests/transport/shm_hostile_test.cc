// SPDX-License-Identifier: Apache-2.0
// Tests the shm backend against peers that break the rules: over bare sockets, byte by byte. The
// backend must refuse, say why, write nothing and go on serving others.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "tests/transport/transport_node.h"
#include "transport/little_endian.h"
#include "transport/shm/shm_frame.h"
#include "transport/shm/shm_socket.h"

namespace mempool {
namespace {

constexpr uint64_t kNodeId = 0xb2;
constexpr uint64_t kRawId = 0xa1;
constexpr uint64_t kFriendId = 0xc3;
constexpr Slot kSlot{3, 1};
constexpr uint32_t kRawRegion = 5;
constexpr uint64_t kRawBytes = 64 << 10;
constexpr std::string_view kToken = "a token";
constexpr std::string_view kPurpose = "data:shm";

struct Frame {
  ShmHeader header;
  std::vector<std::byte> body;
};

// A bare socket against a node that the test runs meanwhile. Thread: confined.
class RawPeer {
 public:
  RawPeer(TransportNode& node, const std::string& name)
      : node_(node), socket_(dial_shm(name).value()) {}

  void send(std::span<const std::byte> bytes, int descriptor = -1) {
    iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (descriptor >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* part = CMSG_FIRSTHDR(&message);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(part), &descriptor, sizeof descriptor);
    }
    EXPECT_EQ(::sendmsg(socket_.number(), &message, MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void send(ShmHeader header, const std::vector<std::byte>& body = {}, int descriptor = -1) {
    header.body_bytes = static_cast<uint32_t>(body.size());
    std::vector<std::byte> bytes(kShmHeaderBytes);
    encode_shm_header(header, bytes.data());
    bytes.insert(bytes.end(), body.begin(), body.end());
    send(bytes, descriptor);
  }
  std::vector<std::byte> receive(size_t count) {
    std::vector<std::byte> bytes(count);
    size_t done = 0;
    run_until({&node_}, [&] {
      const ssize_t got = ::recv(socket_.number(), bytes.data() + done, count - done, MSG_DONTWAIT);
      if (got > 0) done += static_cast<size_t>(got);
      closed_ = got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
      return done == count || closed_;
    });
    if (done < count) bytes.clear();
    return bytes;
  }
  /// Wait for the next frame; none when the node closes first.
  std::optional<Frame> receive() {
    const std::vector<std::byte> head = receive(kShmHeaderBytes);
    if (head.empty()) return std::nullopt;
    Frame frame{decode_shm_header(std::span(head).first<kShmHeaderBytes>()).value(), {}};
    if (frame.header.body_bytes > 0) frame.body = receive(frame.header.body_bytes);
    return frame;
  }
  bool is_closed_by_node() {
    while (!closed_ && receive()) {
    }
    return closed_;
  }

 private:
  TransportNode& node_;
  Descriptor socket_;
  bool closed_ = false;
};

class ShmHostile : public testing::Test {
 protected:
  ShmHostile() : memory_(HostMemory::create("raw", kRawBytes).value()) {
    NodeOptions options;
    options.transport = "shm";
    options.incarnation = kNodeId;
    options.token = kToken;
    node_ = std::make_unique<TransportNode>(options);
    EXPECT_TRUE(node_->transport().open_slot(kRawId, kSlot).ok());
    EXPECT_TRUE(node_->transport().open_slot(kFriendId, kSlot).ok());
    const std::vector<std::byte> address = node_->transport().address_for(kRawId).value();
    LittleEndianReader reader(address.data());
    const auto incarnation = reader.get<uint64_t>();
    const auto word = reader.get<uint64_t>();
    reader.get(ticket_);
    name_ = fmt::format("mempool-shm-{:016x}-{:016x}", incarnation, word);
  }

  ShmVerdict greet(RawPeer& peer, ShmHello hello, std::string_view token = kToken) {
    hello.nonce = make_nonce();
    std::vector<std::byte> body(kShmHelloBytes);
    encode_shm_hello(hello, body.data());
    peer.send({.type = ShmFrameType::kHello}, body);
    const std::optional<Frame> answered = peer.receive();
    if (!answered) return ShmVerdict::kVersion;
    if (answered->header.verdict != ShmVerdict::kOk) return answered->header.verdict;
    const ShmAnswer answer = decode_shm_answer(answered->body);
    const Challenge challenge{hello.dialer, hello.acceptor, hello.nonce, answer.nonce};
    const Proof proof = make_proof(token, kPurpose, challenge, ProofRole::kDialer);
    peer.send({.type = ShmFrameType::kProof}, {proof.begin(), proof.end()});
    const std::optional<Frame> welcome = peer.receive();
    return welcome ? welcome->header.verdict : ShmVerdict::kVersion;
  }

  RawPeer dial_and_prove() {
    RawPeer peer(*node_, name_);
    EXPECT_EQ(greet(peer, {kRawId, kNodeId, ticket_, {}}), ShmVerdict::kOk);
    return peer;
  }
  static void give(RawPeer& peer, uint64_t number, const ShmMemory& memory, int descriptor) {
    std::vector<std::byte> body(kShmMemoryBytes);
    encode_shm_memory(memory, body.data());
    peer.send({.type = ShmFrameType::kMemory, .tag = number}, body, descriptor);
  }
  // Go on until lists may come: words, which all hold 0, and one region.
  RawPeer open() {
    RawPeer peer = dial_and_prove();
    give(peer, 1, {ShmMemoryKind::kWords, 0, 4096}, memory_.descriptor());
    give(peer, 2, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes}, memory_.descriptor());
    peer.send({.type = ShmFrameType::kGiven});
    peer.send({.type = ShmFrameType::kReady});
    for (std::optional<Frame> frame; (frame = peer.receive());) {
      if (frame->header.type == ShmFrameType::kReady) return peer;
    }
    ADD_FAILURE() << "the node closed";
    return peer;
  }
  static std::vector<std::byte> list(const std::vector<RunPair>& pairs) {
    std::vector<std::byte> body(pairs.size() * kShmPairBytes);
    for (size_t i = 0; i < pairs.size(); ++i) {
      encode_shm_pair(pairs[i], body.data() + i * kShmPairBytes);
    }
    return body;
  }
  static ShmHeader list_header(uint32_t word = 0, uint64_t expected = 0) {
    return {.type = ShmFrameType::kList, .slot = kSlot, .expected = expected, .word = word};
  }

  void expect_untouched() {
    EXPECT_TRUE(
        std::ranges::all_of(node_->memory(), [](std::byte b) { return b == std::byte{0}; }));
    EXPECT_TRUE(node_->notified.empty());
  }
  void expect_refusal(RawPeer& peer, StatusCode code, std::string_view words) {
    EXPECT_TRUE(peer.is_closed_by_node());
    ASSERT_TRUE(run_until({node_.get()}, [&] { return !node_->lost.empty(); }));
    EXPECT_EQ(node_->lost.back().code(), code) << node_->lost.back().to_string();
    EXPECT_NE(node_->lost.back().message().find(words), std::string_view::npos)
        << node_->lost.back().to_string();
    expect_untouched();
  }
  // A well-behaved peer is served as ever.
  void expect_service() {
    NodeOptions options;
    options.transport = "shm";
    options.incarnation = kFriendId;
    options.token = kToken;
    TransportNode other(options);
    const std::unique_ptr<Endpoint> endpoint = other.connect(*node_);
    ASSERT_NE(endpoint, nullptr);
    other.memory()[0] = std::byte{9};
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, 1};
    ASSERT_TRUE(endpoint->post({Operation::kWrite, kSlot, 1, {&pair, 1}}).ok());
    ASSERT_TRUE(run_until({&other, node_.get()}, [&] { return other.completed(1); }));
    EXPECT_TRUE(other.completion_of(1).ok());
    EXPECT_EQ(node_->memory()[0], std::byte{9});
  }

  HostMemory memory_;
  std::unique_ptr<TransportNode> node_;
  Proof ticket_;
  std::string name_;
};

TEST_F(ShmHostile, a_peer_that_keeps_the_rules_is_served) {
  RawPeer peer = open();
  memory_.data()[4096] = std::byte{0};
  memory_.data()[4097] = std::byte{7};
  peer.send(list_header(), list({{kRawRegion, TransportNode::kRegion, 4096, 10, 20}}));
  const std::optional<Frame> ack = peer.receive();
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->header.type, ShmFrameType::kAck);
  EXPECT_EQ(ack->header.verdict, ShmVerdict::kOk);
  EXPECT_EQ(node_->memory()[11], std::byte{7});
}

TEST_F(ShmHostile, a_wrong_ticket_incarnation_or_token_is_refused) {
  Proof other = ticket_;
  other[3] ^= std::byte{1};
  RawPeer a(*node_, name_);
  EXPECT_EQ(greet(a, {kRawId, kNodeId, other, {}}), ShmVerdict::kTicket);
  RawPeer b(*node_, name_);
  EXPECT_EQ(greet(b, {kFriendId, kNodeId, ticket_, {}}), ShmVerdict::kTicket);
  RawPeer c(*node_, name_);
  EXPECT_EQ(greet(c, {kRawId, 0xdead, ticket_, {}}), ShmVerdict::kIncarnation);
  RawPeer d(*node_, name_);
  EXPECT_EQ(greet(d, {kRawId, kNodeId, ticket_, {}}, "another token"), ShmVerdict::kProof);
  for (RawPeer* peer : {&a, &b, &c, &d}) EXPECT_TRUE(peer->is_closed_by_node());
  EXPECT_TRUE(node_->lost.empty()) << "nobody has connected";
  expect_service();
}

TEST_F(ShmHostile, another_version_is_told_so) {
  RawPeer peer(*node_, name_);
  std::vector<std::byte> hello(kShmHeaderBytes + kShmHelloBytes);
  encode_shm_header({.type = ShmFrameType::kHello, .body_bytes = kShmHelloBytes}, hello.data());
  hello[4] = std::byte{99};
  peer.send(hello);
  const std::optional<Frame> answer = peer.receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->header.verdict, ShmVerdict::kVersion);
  EXPECT_TRUE(peer.is_closed_by_node());
  expect_service();
}

TEST_F(ShmHostile, what_is_no_handshake_is_closed) {
  RawPeer garbage(*node_, name_);
  garbage.send(std::vector<std::byte>(100, std::byte{0x5a}));
  EXPECT_TRUE(garbage.is_closed_by_node());
  RawPeer early(*node_, name_);
  early.send(list_header(), list({{kRawRegion, TransportNode::kRegion, 0, 0, 20}}));
  EXPECT_TRUE(early.is_closed_by_node());
  RawPeer silent = dial_and_prove();
  silent.send({.type = ShmFrameType::kNotify, .slot = kSlot});
  EXPECT_TRUE(silent.is_closed_by_node());
  expect_untouched();
  expect_service();
}

TEST_F(ShmHostile, memory_that_could_be_cut_off_is_not_mapped) {
  const int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(loose, kRawBytes), 0);
  RawPeer unsealed = dial_and_prove();
  give(unsealed, 1, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes}, loose);
  EXPECT_TRUE(unsealed.is_closed_by_node());
  ASSERT_EQ(fcntl(loose, F_ADD_SEALS, F_SEAL_GROW), 0);
  RawPeer half = dial_and_prove();
  give(half, 1, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes}, loose);
  EXPECT_TRUE(half.is_closed_by_node());
  RawPeer shorter = dial_and_prove();
  give(shorter, 1, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes + 1}, memory_.descriptor());
  EXPECT_TRUE(shorter.is_closed_by_node());
  RawPeer no_file = dial_and_prove();
  const int pipe_or_so = ::socket(AF_UNIX, SOCK_STREAM, 0);
  give(no_file, 1, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes}, pipe_or_so);
  EXPECT_TRUE(no_file.is_closed_by_node());
  RawPeer nothing = dial_and_prove();
  give(nothing, 1, {ShmMemoryKind::kRegion, kRawRegion, kRawBytes}, -1);
  EXPECT_TRUE(nothing.is_closed_by_node());
  close(loose);
  close(pipe_or_so);
  expect_service();
}

TEST_F(ShmHostile, generations_that_do_not_add_up_are_refused) {
  const ShmMemory good{ShmMemoryKind::kRegion, kRawRegion, kRawBytes, 1, 0, 16, 4096};
  std::vector<ShmMemory> bad(6, good);
  bad[0].table = 9;
  bad[1].first_block = 512;
  bad[2].blocks = 0;
  bad[3].blocks = 513;
  bad[4].block_stride = 0;
  bad[5].block_stride = kRawBytes + 1;
  for (const ShmMemory& memory : bad) {
    RawPeer peer = dial_and_prove();
    give(peer, 1, {ShmMemoryKind::kGenerations, 0, 4096}, memory_.descriptor());
    give(peer, 2, memory, memory_.descriptor());
    EXPECT_TRUE(peer.is_closed_by_node());
  }
  expect_service();
}

TEST_F(ShmHostile, lists_outside_of_what_was_given_end_the_connection) {
  const uint64_t size = node_->memory().size();
  const std::vector<RunPair> bad = {
      {99, TransportNode::kRegion, 0, 0, 16},
      {kRawRegion, TransportNode::kRegion, kRawBytes - 15, 0, 16},
      {kRawRegion, TransportNode::kRegion, UINT64_MAX - 7, 0, 16},
      {kRawRegion, 99, 0, 0, 16},
      {kRawRegion, TransportNode::kRegion, 0, size - 15, 16},
      {kRawRegion, TransportNode::kRegion, 0, UINT64_MAX - 7, 16},
  };
  std::memset(memory_.data(), 0, kRawBytes);
  for (const RunPair& pair : bad) {
    RawPeer peer = open();
    std::memset(memory_.data() + 4096, 0x77, 16);
    peer.send(list_header(), list({{kRawRegion, TransportNode::kRegion, 4096, 0, 16}, pair}));
    const bool ours = pair.local_region == kRawRegion && pair.local_offset == 0;
    expect_refusal(peer, StatusCode::kPermissionDenied, ours ? "not registered" : "not given");
    std::memset(memory_.data() + 4096, 0, 16);
  }
  expect_service();
}

TEST_F(ShmHostile, malformed_frames_end_the_connection) {
  const RunPair good{kRawRegion, TransportNode::kRegion, 0, 0, 16};
  const RunPair empty{kRawRegion, TransportNode::kRegion, 0, 0, 0};
  const RunPair large{kRawRegion, TransportNode::kRegion, 0, 0, kShmCallBytesMax};
  const struct {
    ShmHeader header;
    std::vector<std::byte> body;
    std::string_view words;
  } cases[] = {
      {list_header(), list({empty}), "empty"},
      {list_header(), list({good, large}), "oversized"},
      {list_header(1u << 30), list({good}), "word"},
      {list_header(), std::vector<std::byte>(kShmPairBytes + 1), "body"},
      {list_header(), {}, "body"},
      {{.type = static_cast<ShmFrameType>(77)}, {}, "type 77"},
      {{.type = ShmFrameType::kAck}, {}, "not for a target"},
      {{.type = ShmFrameType::kReady}, {}, "not for a target"},
      {{.type = ShmFrameType::kNotify, .slot = kSlot, .word = 1u << 30}, {}, "word"},
  };
  for (const auto& one : cases) {
    RawPeer peer = open();
    peer.send(one.header, one.body);
    expect_refusal(peer, StatusCode::kInvalidArgument, one.words);
  }
  expect_service();
}

TEST_F(ShmHostile, a_raised_word_is_stale_and_no_offence) {
  RawPeer peer = open();
  std::memset(memory_.data() + 8192, 0x77, 16);
  peer.send(list_header(0, 1), list({{kRawRegion, TransportNode::kRegion, 8192, 0, 16}}));
  peer.send({.type = ShmFrameType::kNotify, .slot = kSlot, .expected = 1});
  for (int i = 0; i < 2; ++i) {
    const std::optional<Frame> ack = peer.receive();
    ASSERT_TRUE(ack);
    EXPECT_EQ(ack->header.verdict, ShmVerdict::kStale);
  }
  expect_untouched();
  EXPECT_TRUE(node_->lost.empty());
}

TEST_F(ShmHostile, a_process_of_another_user_is_closed_at_once) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const pid_t child = fork();
  if (child == 0) {
    if (seteuid(65534) != 0) _exit(2);
    const Result<Descriptor> socket = dial_shm(name_);
    char byte = 0;
    if (!socket.ok()) _exit(3);
    fcntl(socket->number(), F_SETFL, 0);
    _exit(::read(socket->number(), &byte, 1) == 0 ? 0 : 4);
  }
  int status = -1;
  ASSERT_TRUE(run_until({node_.get()}, [&] { return waitpid(child, &status, WNOHANG) == child; }));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  expect_service();
}

}  // namespace
}  // namespace mempool
