// SPDX-License-Identifier: Apache-2.0
// Tests that what cannot work says so in one clear sentence: devices, ports, GIDs, MTUs, memory,
// keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/transport/verbs/raw_verbs_peer.h"
#include "transport/verbs/verbs_examine.h"

namespace mempool {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kSource = 0xa1;
constexpr uint64_t kTarget = 0xb2;
constexpr Slot kSlot{3, 1};

Status open_with(std::map<std::string, std::string> options) {
  VerbsOptions parsed = VerbsOptions::parse(options).value();
  return open_devices(parsed).status();
}

TEST(VerbsRefusals, a_device_that_there_is_not) {
  const Status status = open_with({{"devices", "mlx5_99"}});
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("mlx5_99"));
}

TEST(VerbsRefusals, a_device_without_a_sensible_port) {
  EXPECT_EQ(open_with({{"devices", "rxa:x"}}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(open_with({{"devices", "rxa:0"}}).code(), StatusCode::kInvalidArgument);
}

TEST(VerbsRefusals, a_port_that_the_device_has_not) {
  MEMPOOL_NEEDS_RDMA();
  const Status status = open_with({{"devices", test_devices()->source + ":9"}});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("9"));
}

TEST(VerbsRefusals, a_gid_index_out_of_range) {
  MEMPOOL_NEEDS_RDMA();
  const Status status = open_with({{"devices", test_devices()->source}, {"gid_index", "200"}});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("gid_index = 200"));
}

TEST(VerbsRefusals, an_mtu_above_the_port) {
  MEMPOOL_NEEDS_RDMA();
  ASSERT_EQ(std::system("ip link set va mtu 1500"), 0);
  const Status status = open_with({{"devices", test_devices()->source}, {"mtu", "4096"}});
  ASSERT_EQ(std::system("ip link set va mtu 4300"), 0);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
  EXPECT_THAT(std::string(status.message()), HasSubstr("verbs.mtu = 4096"));
}

TEST(VerbsRefusals, a_port_that_is_down) {
  MEMPOOL_NEEDS_RDMA();
  ASSERT_EQ(std::system("ip link set va down"), 0);
  const Status status = open_with({{"devices", test_devices()->source}});
  ASSERT_EQ(std::system("ip link set va up"), 0);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("port 1"), HasSubstr("down")));
}

TEST(VerbsRefusals, a_peer_with_another_mtu_or_another_kind_of_gid) {
  MEMPOOL_NEEDS_RDMA();
  TransportNode target(verbs_node(test_devices()->target, kTarget));
  const auto why_not = [&](std::map<std::string, std::string> options) {
    TransportNode source(verbs_node(test_devices()->source, kSource, std::move(options)));
    Status why;
    EXPECT_EQ(source.connect(target, &why), nullptr);
    return why;
  };
  const Status mtu = why_not({{"mtu", "1024"}});
  EXPECT_EQ(mtu.code(), StatusCode::kUnsupported) << mtu.to_string();
  EXPECT_THAT(std::string(mtu.message()), HasSubstr("verbs.mtu = 1024"));
  const Status gid = why_not({{"gid_index", "0"}});  // IPv6
  EXPECT_EQ(gid.code(), StatusCode::kUnsupported) << gid.to_string();
  EXPECT_THAT(std::string(gid.message()), HasSubstr("verbs.gid_index"));
}

// In a child of little memory to lock that is no longer root, whom no limit holds: whether
// `condition` holds there.
bool holds_under_a_limit(uint64_t limit, const std::function<bool()>& condition) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit little{limit, limit};
    if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || setuid(65534) != 0) _exit(2);
    _exit(condition() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(VerbsRefusals, memory_past_the_lock_limit) {
  MEMPOOL_NEEDS_RDMA();
  VerbsOptions options;
  options.devices = {test_devices()->source};
  const auto devices = open_devices(options);
  ASSERT_TRUE(devices.ok());
  EXPECT_TRUE(holds_under_a_limit(64 << 10, [&] {
    std::vector<std::byte> memory(1 << 20);
    const Status why = devices->front()->register_memory(memory.data(), memory.size(), -1).status();
    return why.code() == StatusCode::kResourceExhausted &&
           std::string(why.message()).find("RLIMIT_MEMLOCK") != std::string::npos;
  }));
}

TEST(VerbsRefusals, a_pool_that_fits_the_lock_limit_once_but_not_for_each_device_is_examined) {
  MEMPOOL_NEEDS_RDMA();
  const std::string both = test_devices()->source + "," + test_devices()->target;
  const auto memory_is_usable = [](const DeviceQuery& query) {
    return examine_verbs(query).back().usable;
  };
  constexpr uint64_t kLimit = 64 << 20;
  EXPECT_TRUE(holds_under_a_limit(kLimit, [&] {
    return memory_is_usable({{{"devices", test_devices()->source}}, kLimit * 3 / 4}) &&
           !memory_is_usable({{{"devices", both}}, kLimit * 3 / 4});
  }));
  EXPECT_TRUE(memory_is_usable({{{"devices", both}}, kLimit * 3 / 4})) << "no limit holds root";
}

TEST(VerbsRefusals, a_wrong_key_is_refused_by_the_peers_device_and_the_next_connection_works) {
  MEMPOOL_NEEDS_RDMA();
  TransportNode source(verbs_node(test_devices()->source, kSource));
  TransportNode target(verbs_node(test_devices()->target, kTarget));
  for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
    std::unique_ptr<Endpoint> endpoint = source.connect(target);
    ASSERT_NE(endpoint, nullptr);
    std::vector<std::byte> key = target.transport().export_key(TransportNode::kRegion).value();
    key.back() ^= std::byte{0x55};
    ASSERT_TRUE(endpoint->import_key(TransportNode::kRegion, key).ok());
    const std::vector<std::byte> there = target.memory();
    const std::vector<std::byte> here = source.memory();
    const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, 4096};
    source.completions.clear();
    source.lost.clear();
    ASSERT_TRUE(endpoint->post({operation, kSlot, 1, {&pair, 1}}).ok());
    ASSERT_TRUE(run_until({&source, &target}, [&] { return !source.lost.empty(); }));
    EXPECT_EQ(source.completion_of(1).code(), StatusCode::kPermissionDenied);
    EXPECT_TRUE(target.memory() == there);
    EXPECT_TRUE(source.memory() == here);
  }
  const std::unique_ptr<Endpoint> endpoint = source.connect(target);
  ASSERT_NE(endpoint, nullptr);
  const RunPair pair{TransportNode::kRegion, TransportNode::kRegion, 0, 0, 4096};
  source.completions.clear();
  ASSERT_TRUE(endpoint->post({Operation::kWrite, kSlot, 9, {&pair, 1}}).ok());
  ASSERT_TRUE(run_until({&source, &target}, [&] { return source.completed(9); }));
  EXPECT_TRUE(source.completion_of(9).ok());
}

}  // namespace
}  // namespace mempool
