// SPDX-License-Identifier: Apache-2.0
// Tests what the ucx backend reads of UCX's own words, and what it calls RDMA by them.
#include "transport/ucx/ucx_resources.h"

#include <gtest/gtest.h>

namespace mempool {
namespace {

TEST(UcxResources, what_ucx_prints_of_a_context_is_read) {
  const std::vector<UcxResource> resources = parse_ucx_resources(
      "# UCP context\n#     md 0  :  rxe0\n"
      "#      resource 0  :  md 0  dev 0  flags -- rc_verbs/rxe0:1\n"
      "#      resource 1  :  md 0  dev 0  flags a- ud_verbs/rxe0:1\n");
  ASSERT_EQ(resources.size(), 2u);
  EXPECT_EQ(resources[0].transport, "rc_verbs");
  EXPECT_EQ(resources[0].device, "rxe0:1");
  EXPECT_FALSE(resources[0].auxiliary);
  EXPECT_TRUE(resources[1].auxiliary);
}

TEST(UcxResources, a_route_names_each_transport_and_device_once) {
  EXPECT_EQ(parse_ucx_route("#   lane[0]:  2:rc_verbs/mlx5_0:1.0 md[1]  -> md[1]\n"
                            "#   lane[1]:  2:rc_verbs/mlx5_0:1.1 md[1]  -> md[1]\n"
                            "#   lane[2]:  0:tcp/lo.0 md[0]  -> md[0]\n"),
            "rc_verbs/mlx5_0:1, tcp/lo");
}

TEST(UcxResources, only_what_a_nic_moves_whichever_ucx_takes_is_rdma) {
  const UcxResource rc{"rc_verbs", "rxe0:1"};
  const UcxResource dc{"dc_mlx5", "mlx5_0:1"};
  const UcxResource ud{"ud_verbs", "rxe0:1"};
  const UcxResource ud_for_setting_up{"ud_verbs", "rxe0:1", true};
  const UcxResource self{"self", "memory0"};
  const UcxResource tcp{"tcp", "eth0"};
  EXPECT_TRUE(all_rdma({rc}));
  EXPECT_TRUE(all_rdma({rc, dc, ud_for_setting_up, self}));
  EXPECT_FALSE(all_rdma({rc, tcp})) << "UCX may take either to a peer";
  EXPECT_FALSE(all_rdma({rc, ud})) << "a CPU puts in place what comes over ud";
  EXPECT_FALSE(all_rdma({rc, {"posix", "memory"}}));
  EXPECT_FALSE(all_rdma({ud}));
  EXPECT_FALSE(all_rdma({self, ud_for_setting_up}));
  EXPECT_FALSE(all_rdma({}));
}

}  // namespace
}  // namespace mempool
