// SPDX-License-Identifier: Apache-2.0
// Tests what only the ucx backend has: its options, what it tells a peer outside of UCX, its fence
// amid puts, and peers that are killed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "tests/transport/pipe_bytes.h"
#include "tests/transport/transport_node.h"
#include "transport/loop.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kSourceId = 0xa1;
constexpr uint64_t kTargetId = 0xb2;
constexpr uint32_t kRegion = TransportNode::kRegion;
constexpr Slot kSlot{3, 1};
constexpr uint64_t kBytes = uint64_t{4} << 20;
constexpr char kPeerPipe[] = "MEMPOOL_TEST_UCX_PEER";

using Options = std::map<std::string, std::string>;

// With room for more calls than sockets and turns of a loop take at once.
Options over_tcp() {
  return {{"tls", "tcp"},
          {"devices", "lo"},
          {"trust_peers", "1"},
          {"self_test", "0"},
          {"calls_in_flight", "1024"}};
}

// Over the first (of the source) or the second of the RDMA devices that there are, else over tcp.
Options over_anything(bool source) {
  const char* const names = std::getenv("MEMPOOL_RDMA_DEVICES");
  if (names == nullptr) return over_tcp();
  const std::string both = names;
  const size_t comma = both.find(',');
  return {{"devices", (source ? both.substr(0, comma) : both.substr(comma + 1)) + ":1"},
          {"config", "IB_GID_INDEX=0"},
          {"self_test", "0"}};
}

std::unique_ptr<TransportNode> make_node(uint64_t incarnation, const Options& options) {
  NodeOptions node;
  node.transport = "ucx";
  node.incarnation = incarnation;
  node.region_bytes = kBytes;
  node.options = options;
  return std::make_unique<TransportNode>(node);
}

// How a node would fail to open with these options.
Status refusal(const Options& options) {
  const std::unique_ptr<TransportNode> host = make_node(0xc3, over_tcp());
  TransportContext context = host->context();
  context.options = options;
  const Result<std::unique_ptr<Transport>> opened = test_registry().open("ucx", context);
  return opened.status();
}

Options with(Options options, const std::string& key, const std::string& value) {
  options[key] = value;
  return options;
}

TEST(UcxOptions, transports_of_other_processes_need_trust) {
  for (const char* tls : {"tcp", "sm", "shm", "posix", "rc,sysv", "cma", "knem", "xpmem", "all",
                          "^sm", "cuda", "cuda_ipc", "mm"}) {
    const Status why = refusal({{"tls", tls}});
    EXPECT_EQ(why.code(), StatusCode::kPermissionDenied) << tls << ": " << why.to_string();
    EXPECT_THAT(std::string(why.message()), HasSubstr("ucx.trust_peers"));
  }
}

TEST(UcxOptions, tcp_wants_its_devices_named) {
  for (const char* tls : {"tcp", "rc,tcp", "all", "^sm"}) {
    const Status why = refusal({{"tls", tls}, {"trust_peers", "1"}});
    EXPECT_EQ(why.code(), StatusCode::kPermissionDenied) << tls << ": " << why.to_string();
    EXPECT_THAT(std::string(why.message()), HasSubstr("devices"));
  }
}

TEST(UcxOptions, what_is_no_setting_is_refused) {
  for (const char* config : {"TX_SEG_SIZE", "=8K", "UCX_TX_SEG_SIZE=8K", "TLS=tcp",
                             "NET_DEVICES=lo", "NO_SUCH_SETTING=1", "RNDV_THRESH=many"}) {
    const Status why = refusal(with(over_tcp(), "config", config));
    EXPECT_EQ(why.code(), StatusCode::kInvalidArgument) << config << ": " << why.to_string();
    EXPECT_THAT(std::string(why.message()),
                HasSubstr(std::string(config).substr(0, std::string(config).find('='))));
  }
}

TEST(UcxOptions, a_value_may_have_commas) {
  const Status opened = refusal(with(over_tcp(), "config", "NET_DEVICES_X=a,b"));
  EXPECT_THAT(std::string(opened.message()), HasSubstr("NET_DEVICES_X=a,b"));
}

TEST(UcxOptions, a_device_that_does_not_exist_is_refused_by_name) {
  const Status why = refusal(with(over_tcp(), "devices", "no_such_device"));
  EXPECT_EQ(why.code(), StatusCode::kUnavailable) << why.to_string();
  EXPECT_THAT(std::string(why.message()), HasSubstr("no_such_device"));
}

TEST(UcxOptions, numbers_out_of_range_are_refused) {
  for (const char* key : {"port", "message_bytes", "calls_in_flight", "trust_peers", "self_test",
                          "handshake_timeout_ms"}) {
    const Status why = refusal(with(over_tcp(), key, "99999999999999"));
    EXPECT_EQ(why.code(), StatusCode::kInvalidArgument) << key << ": " << why.to_string();
    EXPECT_THAT(std::string(why.message()), HasSubstr(key));
  }
}

TEST(UcxSelfTest, what_it_measures_bounds_a_call) {
  const std::unique_ptr<TransportNode> node =
      make_node(kSourceId, with(over_anything(true), "self_test", "1"));
  EXPECT_TRUE(node->capabilities().write);
  EXPECT_TRUE(node->capabilities().read);
  EXPECT_GE(node->capabilities().message_bytes, uint64_t{64} << 10);
  EXPECT_LE(node->capabilities().message_bytes, uint64_t{8} << 20);
}

/// Two nodes. Thread: confined.
class UcxPair : public testing::Test {
 protected:
  UcxPair()
      : source_(make_node(kSourceId, over_anything(true))),
        target_(make_node(kTargetId, over_anything(false))) {}

  bool run_until(const std::function<bool()>& condition) {
    return mempool::run_until({source_.get(), target_.get()}, condition);
  }

  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<TransportNode> target_;
};

TEST_F(UcxPair, the_route_names_transport_and_device) {
  const std::unique_ptr<Endpoint> endpoint = source_->connect(*target_);
  ASSERT_NE(endpoint, nullptr);
  const bool rdma = source_->capabilities().rdma;
  EXPECT_EQ(rdma, std::getenv("MEMPOOL_RDMA_DEVICES") != nullptr);
  EXPECT_THAT(endpoint->route(), HasSubstr(rdma ? "rc_verbs/rx" : "tcp/lo"));
}

TEST_F(UcxPair, a_key_that_was_changed_anywhere_is_refused) {
  const std::unique_ptr<Endpoint> endpoint = source_->connect(*target_);
  ASSERT_NE(endpoint, nullptr);
  const std::vector<std::byte> key = target_->transport().export_key(kRegion).value();
  EXPECT_LE(key.size(), 1024u);
  for (size_t i = 0; i < key.size(); ++i) {
    std::vector<std::byte> changed = key;
    changed[i] ^= std::byte{1};
    EXPECT_EQ(endpoint->import_key(kRegion, changed).code(), StatusCode::kInvalidArgument) << i;
    changed.resize(i);
    EXPECT_EQ(endpoint->import_key(kRegion, changed).code(), StatusCode::kInvalidArgument) << i;
  }
}

TEST_F(UcxPair, nothing_of_puts_under_way_lands_after_the_fence) {
  const std::unique_ptr<Endpoint> endpoint = source_->connect(*target_);
  ASSERT_NE(endpoint, nullptr);
  ASSERT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
  std::fill(source_->memory().begin(), source_->memory().end(), std::byte{0x5a});
  const uint64_t bytes = std::min<uint64_t>(kBytes, source_->capabilities().message_bytes);
  const RunPair all{kRegion, kRegion, 0, 0, bytes};
  std::vector<uint64_t> cookies;
  for (uint64_t cookie = 1;; ++cookie) {
    if (!endpoint->post({Operation::kWrite, kSlot, cookie, {&all, 1}}).ok()) break;
    cookies.push_back(cookie);
  }
  for (int turns = 0; turns < 3; ++turns) {  // some of it lands
    source_->step();
    target_->step();
  }
  target_->transport().fence(kSourceId);
  const std::vector<std::byte> at_fence = target_->memory();
  std::fill(source_->memory().begin(), source_->memory().end(),
            std::byte{0xa5});  // seen if it lands
  ASSERT_TRUE(mempool::run_until({target_.get()}, [&] { return !target_->fenced.empty(); }));
  // What the source still has to send meets nobody, and each of its calls ends.
  ASSERT_TRUE(run_until([&] { return !source_->lost.empty(); }));
  for (const uint64_t cookie : cookies) EXPECT_TRUE(source_->completed(cookie));
  EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(target_->memory() == at_fence);
}

// A get is cut into fragments that wait for each other, and each of them reads the key.
TEST_F(UcxPair, a_key_that_comes_again_is_not_taken_from_a_get_under_way) {
  const Options options = over_anything(true);
  if (!options.contains("config")) GTEST_SKIP() << "over tcp UCX has no keys; needs RDMA devices";
  source_ = make_node(kSourceId,
                      with(options, "config",
                           options.at("config") + ",RC_MAX_GET_ZCOPY=64K,RC_TX_NUM_GET_BYTES=64K"));
  const std::unique_ptr<Endpoint> endpoint = source_->connect(*target_);
  ASSERT_NE(endpoint, nullptr);
  const std::vector<std::byte> key = target_->transport().export_key(kRegion).value();
  // Of other memory under the same name, as after a region has gone and come again.
  const std::unique_ptr<TransportNode> double_of_target =
      make_node(kTargetId, over_anything(false));
  const std::vector<std::byte> other = double_of_target->transport().export_key(kRegion).value();
  ASSERT_NE(key, other);
  std::fill(target_->memory().begin(), target_->memory().end(), std::byte{0x5a});
  const RunPair all{kRegion, kRegion, 0, 0, kBytes};
  ASSERT_TRUE(endpoint->post({Operation::kRead, kSlot, 1, {&all, 1}}).ok());
  ASSERT_TRUE(endpoint->import_key(kRegion, key).ok());
  ASSERT_TRUE(endpoint->import_key(kRegion, other).ok());
  ASSERT_TRUE(endpoint->import_key(kRegion, other).ok());
  EXPECT_FALSE(source_->completed(1));
  ASSERT_TRUE(run_until([&] { return source_->completed(1); }));
  EXPECT_TRUE(source_->completion_of(1).ok()) << source_->completion_of(1).to_string();
  EXPECT_TRUE(source_->memory() == std::vector<std::byte>(target_->memory()));
}

/// A set-up port by hand, as of a peer that says what it likes. Thread: confined.
class HostilePort {
 public:
  explicit HostilePort(TransportNode& node, std::vector<std::byte> note)
      : port_(node.context()
                  .loop
                  ->open_setup_port({"ucx", 0xdead, node.context().token,
                                     std::chrono::milliseconds(5000), "127.0.0.1", 0},
                                    [this, note](std::shared_ptr<SetupLink> link, uint64_t) {
                                      link->send(note);
                                      links_.push_back(std::move(link));
                                      return true;
                                    })
                  .value()) {}
  SetupPort& port() { return *port_; }

 private:
  std::vector<std::shared_ptr<SetupLink>> links_;
  std::unique_ptr<SetupPort> port_;
};

TEST_F(UcxPair, a_peer_that_gives_no_worker_address_is_refused) {
  for (const size_t bytes : {size_t{0}, size_t{7}, size_t{8}, size_t{500}}) {
    HostilePort hostile(*target_, std::vector<std::byte>(bytes, std::byte{0xff}));
    Status why;
    bool done = false;
    source_->transport().connect(0xdead, "127.0.0.1", hostile.port().address().value(),
                                 [&](Result<std::unique_ptr<Endpoint>> connected) {
                                   why = connected.status();
                                   done = true;
                                 });
    ASSERT_TRUE(run_until([&] { return done; }));
    EXPECT_EQ(why.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(why.message()), HasSubstr("worker address"));
    EXPECT_THAT(std::string(why.message()), Not(HasSubstr("GID"))) << "nothing was tried to reach";
  }
  EXPECT_NE(source_->connect(*target_), nullptr) << "others are still served";
}

TEST_F(UcxPair, a_dialer_that_sends_notes_is_cut_off) {
  HostilePort hostile(*source_, {});
  std::shared_ptr<SetupLink> link;
  hostile.port().dial(kTargetId, "127.0.0.1", target_->transport().address_for(0xdead).value(),
                      [&](Result<std::shared_ptr<SetupLink>> dialed) {
                        ASSERT_TRUE(dialed.ok()) << dialed.status().to_string();
                        link = *dialed;
                        link->send(std::vector<std::byte>(100, std::byte{1}));
                      });
  ASSERT_TRUE(run_until([&] { return !target_->lost.empty(); }));
  EXPECT_EQ(target_->lost[0].code(), StatusCode::kInvalidArgument);
  EXPECT_NE(source_->connect(*target_), nullptr) << "others are still served";
}

TEST_F(UcxPair, a_peer_without_room_says_so) {
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  Status why;
  for (int i = 0; i < 9 && why.ok(); ++i) {
    endpoints.push_back(source_->connect(*target_, &why));
  }
  EXPECT_EQ(endpoints.size(), 9u) << "eight of a peer are served";
  EXPECT_EQ(why.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(why.message()), HasSubstr("the peer refuses: 8 connections"));
  EXPECT_THAT(std::string(why.message()), Not(HasSubstr("GID")));
  endpoints.clear();
  ASSERT_TRUE(run_until([&] { return target_->lost.size() == 8; }));
  EXPECT_NE(source_->connect(*target_), nullptr) << "there is room again";
}

TEST_F(UcxPair, a_fence_ends_connects_to_the_peer_wherever_they_are) {
  for (int turns = 0; turns < 12; ++turns) {
    Status why;
    int told = 0;
    source_->transport().connect(kTargetId, "127.0.0.1",
                                 target_->transport().address_for(kSourceId).value(),
                                 [&](Result<std::unique_ptr<Endpoint>> connected) {
                                   why = connected.status();
                                   ++told;
                                 });
    for (int turn = 0; turn < turns && told == 0; ++turn) {
      source_->step();
      target_->step();
    }
    if (told > 0) break;  // it was there sooner
    source_->transport().fence(kTargetId);
    EXPECT_EQ(told, 0) << "fence() may not answer from inside";
    ASSERT_TRUE(run_until([&] { return told > 0; }));
    settle({source_.get(), target_.get()});
    EXPECT_EQ(told, 1);
    EXPECT_EQ(why.code(), StatusCode::kUnavailable);
    EXPECT_THAT(std::string(why.message()), HasSubstr("fenced")) << "after turns: " << turns;
  }
  EXPECT_NE(source_->connect(*target_), nullptr);
}

TEST_F(UcxPair, a_notification_of_no_open_slot_is_counted_as_a_stray) {
  const std::unique_ptr<Endpoint> endpoint = source_->connect(*target_);
  ASSERT_NE(endpoint, nullptr);
  ASSERT_TRUE(target_->transport().open_slot(kSourceId, kSlot).ok());
  ASSERT_TRUE(endpoint->notify({kSlot.index, kSlot.generation + 1}, 1).ok());
  ASSERT_TRUE(endpoint->notify(kSlot, 2).ok());
  ASSERT_TRUE(run_until([&] { return !target_->notified.empty(); }));
  ASSERT_TRUE(run_until([&] { return target_->transport().counts().strays > 0; }));
  EXPECT_EQ(target_->notified, std::vector<Slot>{kSlot});
  EXPECT_EQ(target_->transport().counts().strays, 1u);
}

// ---- processes -------------------------------------------------------------------------------

// Not a test but the other process of the tests below: UCX cannot go on in a fork.
TEST(UcxProcess, serves_until_it_is_killed) {
  const char* const pipe = std::getenv(kPeerPipe);
  if (pipe == nullptr) GTEST_SKIP() << "is started by the other tests";
  const std::unique_ptr<TransportNode> node = make_node(kTargetId, over_anything(false));
  send_all(std::atoi(pipe), node->transport().address_for(kSourceId).value());
  send_all(std::atoi(pipe), node->transport().export_key(kRegion).value());
  for (;;) node->poll_or_wait();
}

/// A source here, a target in another process. Thread: confined.
class UcxProcessPair : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    child_ = fork();
    if (child_ == 0) {
      ::setenv(kPeerPipe, std::to_string(ends[1]).c_str(), 1);
      ::execl("/proc/self/exe", "peer", "--gtest_filter=UcxProcess.*", nullptr);
      _exit(1);
    }
    ::close(ends[1]);
    const std::vector<std::byte> address = receive_all(ends[0]);
    const std::vector<std::byte> key = receive_all(ends[0]);
    ::close(ends[0]);
    source_ = make_node(kSourceId, over_anything(true));
    source_->transport().connect(kTargetId, "127.0.0.1", address, [&](auto connected) {
      EXPECT_TRUE(connected.ok()) << connected.status().to_string();
      if (connected.ok()) endpoint_ = std::move(connected).value();
    });
    ASSERT_TRUE(run_until({source_.get()}, [&] { return endpoint_ != nullptr; }));
    ASSERT_TRUE(endpoint_->import_key(kRegion, key).ok());
  }
  void TearDown() override {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  std::vector<uint64_t> fill_pipe() {
    const uint64_t bytes = std::min<uint64_t>(kBytes, source_->capabilities().message_bytes);
    const RunPair all{kRegion, kRegion, 0, 0, bytes};
    std::vector<uint64_t> cookies;
    for (uint64_t cookie = 1;; ++cookie) {
      if (!endpoint_->post({Operation::kWrite, kSlot, cookie, {&all, 1}}).ok()) return cookies;
      cookies.push_back(cookie);
    }
  }

  pid_t child_ = -1;
  std::unique_ptr<TransportNode> source_;
  std::unique_ptr<Endpoint> endpoint_;
};

TEST_F(UcxProcessPair, a_target_killed_amid_puts_ends_each_of_them) {
  const std::vector<uint64_t> cookies = fill_pipe();
  kill(child_, SIGKILL);
  ASSERT_TRUE(run_until({source_.get()}, [&] { return !source_->lost.empty(); }));
  for (const uint64_t cookie : cookies) EXPECT_TRUE(source_->completed(cookie)) << cookie;
  EXPECT_EQ(source_->completion_of(cookies.back()).code(), StatusCode::kUnavailable);
  EXPECT_EQ(source_->lost.size(), 1u);
}

TEST_F(UcxProcessPair, calls_to_a_stopped_target_end_with_its_endpoint) {
  kill(child_, SIGSTOP);
  constexpr uint64_t kNotification = 1 << 20;
  const RunPair one{kRegion, kRegion, 0, 0, 1};
  ASSERT_TRUE(endpoint_->post({Operation::kWrite, kSlot, kNotification - 1, {&one, 1}}).ok());
  ASSERT_TRUE(endpoint_->notify(kSlot, kNotification).ok());
  std::vector<uint64_t> cookies = fill_pipe();
  cookies.push_back(kNotification);
  endpoint_->stop(kSlot);
  endpoint_->close();
  ASSERT_TRUE(run_until({source_.get()}, [&] { return source_->completed(cookies.back()); }));
  for (const uint64_t cookie : cookies) EXPECT_TRUE(source_->completed(cookie)) << cookie;
  EXPECT_TRUE(source_->transport().deregister_region(kRegion).ok());
}

}  // namespace
}  // namespace mempool
