// SPDX-License-Identifier: Apache-2.0
// Tests which transport a session gets, and that what is not used keeps its reason at both ends.
// Modules that stand in for verbs (by RDMA) and ucx (here without) are loaded for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/agent/agent_pair.h"
#include "tests/agent/welcome_proxy.h"
#include "tests/transport/module_path.h"

namespace mempool::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

AgentOptions options_of(const std::string& name, const std::vector<std::string>& transports,
                        const std::vector<std::string>& require = {}) {
  AgentOptions options = small_options(name);
  options.transports = transports;
  options.require = require;
  return options;
}

/// On a machine without the devices.
AgentOptions without_devices(AgentOptions options) {
  options.transport_options["verbs.devices"] = "none";
  options.transport_options["ucx.devices"] = "none";
  return options;
}

class SelectionTest : public ::testing::Test {
 protected:
  /// Bring a block from one to the other, and give how that ended.
  Status send(const AgentOptions& source, const AgentOptions& target) {
    target_ = start_agent(target);
    return target_ == nullptr ? cancelled("no target") : send_to(target_->status().listen, source);
  }

  Status send_to(const std::string& address, const AgentOptions& source) {
    source_ = start_agent(source);
    if (source_ == nullptr) return cancelled("no source");
    source_->add_peer("b", address);
    const auto tokens = make_tokens(4);
    const auto blocks = filled_blocks(*source_, tokens);
    auto transfer =
        source_->transfer_with_insert("b", {*make_content(small_spec()), tokens}, blocks);
    if (!transfer.ok()) return transfer.status();
    const Status status = transfer->wait();
    if (status.ok()) transport_ = transfer->report().transport;
    return status;
  }

  std::vector<std::string> refusals() const { return source_->status().peers.at(0).refusals; }

  const ModulePath modules_{std::string(MEMPOOL_TEST_MODULES) + "/stand_in"};
  std::unique_ptr<Agent> target_;
  std::unique_ptr<Agent> source_;
  std::string transport_;
};

TEST_F(SelectionTest, the_first_that_both_have_is_used) {
  EXPECT_TRUE(send(options_of("a", {"verbs", "tcp"}), options_of("b", {"tcp", "verbs"})).ok());
  EXPECT_EQ(transport_, "verbs");
  EXPECT_THAT(refusals(), IsEmpty());
}

TEST_F(SelectionTest, what_is_closed_here_is_passed_over_with_its_reason) {
  EXPECT_TRUE(send(without_devices(options_of("a", {"verbs", "ucx", "local", "tcp"})),
                   options_of("b", {"verbs", "ucx", "local", "tcp"}))
                  .ok());
  EXPECT_EQ(transport_, "local");
  EXPECT_THAT(refusals(),
              ElementsAre("verbs: no device; plug one in", "ucx: no device; plug one in"));
}

TEST_F(SelectionTest, what_is_closed_at_the_peer_is_passed_over_with_the_peers_reason) {
  EXPECT_TRUE(send(options_of("a", {"verbs", "ucx", "tcp"}),
                   without_devices(options_of("b", {"verbs", "tcp"})))
                  .ok());
  EXPECT_EQ(transport_, "tcp");
  EXPECT_THAT(refusals(), ElementsAre("verbs: not at the peer: no device; plug one in",
                                      "ucx: not at the peer; see its agent.transports"));
}

TEST_F(SelectionTest, a_peer_that_gives_no_reasons_is_passed_over_without) {
  target_ = start_agent(without_devices(options_of("b", {"verbs", "tcp"})));
  ASSERT_NE(target_, nullptr);
  WelcomeProxy relay(target_->status().listen, [](Welcome& welcome) { welcome.closed.clear(); });
  EXPECT_TRUE(send_to(relay.address(), options_of("a", {"verbs", "tcp"})).ok());
  EXPECT_THAT(refusals(), ElementsAre("verbs: not at the peer; see its agent.transports"));
  source_.reset();
}

TEST_F(SelectionTest, an_agent_shows_which_transports_it_has_and_why_not) {
  const auto agent = start_agent(without_devices(options_of("a", {"verbs", "tcp"})));
  ASSERT_NE(agent, nullptr);
  const auto transports = agent->status().transports;
  ASSERT_EQ(transports.size(), 2u);
  EXPECT_EQ(transports[0].name, "verbs");
  EXPECT_EQ(transports[0].closed, "no device; plug one in");
  EXPECT_EQ(transports[1].closed, "");
}

// ---- agent.require ----

TEST_F(SelectionTest, a_start_without_any_rdma_is_refused_with_every_reason) {
  const Status status =
      Agent::start(without_devices(options_of("a", {"verbs", "ucx", "tcp"}, {"rdma"}))).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("'rdma'"), HasSubstr("verbs: no device"), HasSubstr("ucx: no device"),
                    HasSubstr("tcp: agent.require names rdma alone")));
}

TEST_F(SelectionTest, a_transport_without_a_nic_is_no_rdma) {
  const Status status = Agent::start(options_of("a", {"ucx", "tcp"}, {"rdma"})).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
}

TEST_F(SelectionTest, a_required_transport_that_no_list_names_is_told_so) {
  const Status status = Agent::start(options_of("a", {"tcp"}, {"shm"})).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'shm' is not in agent.transports"));
}

TEST_F(SelectionTest, a_source_that_requires_rdma_does_not_fall_to_tcp) {
  const Status status = send(options_of("a", {"verbs", "tcp"}, {"rdma"}),
                             without_devices(options_of("b", {"verbs", "tcp"})));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("verbs: not at the peer: no device"),
                    HasSubstr("tcp: agent.require names rdma alone")));
}

TEST_F(SelectionTest, a_target_that_requires_rdma_is_not_reached_by_tcp) {
  const Status status = send(without_devices(options_of("a", {"verbs", "tcp"})),
                             options_of("b", {"verbs", "tcp"}, {"rdma"}));
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("verbs: no device"),
                    HasSubstr("tcp: not at the peer: agent.require names rdma alone")));
}

TEST_F(SelectionTest, a_slower_transport_serves_where_it_is_required_too) {
  EXPECT_TRUE(send(options_of("a", {"verbs", "tcp"}, {"rdma", "tcp"}),
                   without_devices(options_of("b", {"verbs", "tcp"})))
                  .ok());
  EXPECT_EQ(transport_, "tcp");
}

TEST_F(SelectionTest, more_transports_than_a_peer_can_be_told_of_are_refused) {
  const std::vector<std::string> many(17, "tcp");
  EXPECT_EQ(Agent::start(options_of("a", many)).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Agent::start(options_of("a", {"t\ncp"})).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mempool::testing
