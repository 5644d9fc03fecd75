// SPDX-License-Identifier: Apache-2.0
// Owns the tests of `mempool doctor`: its rows, and what makes it fail.
#include <sys/resource.h>
#include <unistd.h>

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;

/// Its JSON for these settings, which must end it with this exit code.
nlohmann::json doctor(const std::vector<std::string>& settings, int exit_code,
                      const std::vector<std::string>& environment = {}) {
  std::vector<std::string> words = {"doctor", "--json", "--set=content.layers=1"};
  for (const std::string& setting : settings) words.push_back("--set=" + setting);
  const CommandResult result = run_command(words, environment);
  EXPECT_EQ(result.exit_code, exit_code) << result.errors << result.output;
  auto document = nlohmann::json::parse(result.output, nullptr, false);
  EXPECT_TRUE(document.is_object()) << result.output;
  EXPECT_EQ(document.value("ok", false), exit_code == 0);
  return document;
}

nlohmann::json row(const nlohmann::json& document, const std::string& name) {
  for (const auto& check : document.at("checks")) {
    if (check.at("check") == name) return check;
  }
  ADD_FAILURE() << "no row " << name << " in " << document.dump(2);
  return {};
}

TEST(DoctorCommand, what_these_tests_stand_on_is_ok) {
  const auto found = doctor({"pool.blocks=16"}, 0);
  for (const char* name : {"tcp", "shm memfd", "shm socket", "shm user", "memory", "descriptors"}) {
    EXPECT_EQ(row(found, name).at("state"), "ok") << name;
  }
  EXPECT_THAT(row(found, "tcp").at("found"), HasSubstr("connected"));
  EXPECT_TRUE(row(found, "tcp").at("needed"));  // the only one of agent.transports
  EXPECT_THAT(row(found, "shm user").at("found"), HasSubstr(std::to_string(geteuid())));
}

TEST(DoctorCommand, every_row_that_is_not_ok_has_a_mend) {
  const auto found = doctor({"pool.blocks=16"}, 0);
  for (const auto& check : found.at("checks")) {
    EXPECT_EQ(check.at("mend").get<std::string>().empty(), check.at("state") == "ok")
        << check.dump();
    EXPECT_FALSE(check.at("found").get<std::string>().empty()) << check.dump();
  }
}

/// The same where modules stand in for those of vendors.
nlohmann::json doctor_with_stand_ins(const std::vector<std::string>& settings, int exit_code) {
  return doctor(settings, exit_code,
                {std::string("MEMPOOL_MODULE_PATH=") + MEMPOOL_TEST_MODULES + "/stand_in"});
}

TEST(DoctorCommand, module_that_is_not_there_fails_only_where_it_is_required) {
  const std::vector<std::string> nowhere = {"MEMPOOL_MODULE_PATH=/nowhere"};
  const auto wanted = doctor({"pool.blocks=16", "agent.transports=verbs,tcp"}, 0, nowhere);
  EXPECT_EQ(row(wanted, "verbs").at("found"), "no mempool_transport_verbs.so in /nowhere");
  EXPECT_THAT(row(wanted, "verbs").at("mend"), HasSubstr("install it"));
  EXPECT_FALSE(row(wanted, "verbs").at("needed"));
  const auto required =
      doctor({"pool.blocks=16", "agent.transports=verbs,tcp", "agent.require=verbs"}, 1, nowhere);
  EXPECT_TRUE(row(required, "verbs").at("needed"));
  EXPECT_FALSE(row(required, "tcp").at("needed"));
}

TEST(DoctorCommand, module_is_opened_and_has_a_row_for_each_device) {
  const auto found = doctor_with_stand_ins({"pool.blocks=16", "agent.transports=verbs"}, 0);
  EXPECT_EQ(row(found, "verbs").at("state"), "ok");
  EXPECT_TRUE(row(found, "verbs").at("needed"));
  EXPECT_EQ(row(found, "verbs card0 port 1").at("state"), "ok");
  const uint64_t bytes = 16 * 2 * 8 * 128 * 2 * 16;  // blocks, parts, heads, size, element, tokens
  EXPECT_THAT(row(found, "verbs card0 port 1").at("found"),
              HasSubstr(std::to_string(bytes) + " to register"));
  const auto down = row(found, "verbs card0 port 2");
  EXPECT_EQ(down.at("state"), "no");
  EXPECT_EQ(down.at("mend"), "plug in its cable");
  EXPECT_FALSE(down.at("needed")) << "the other port is up";
}

TEST(DoctorCommand, module_without_a_device_says_what_an_agent_would) {
  const auto found =
      doctor_with_stand_ins({"pool.blocks=16", "agent.transports=verbs", "verbs.devices=none"}, 1);
  EXPECT_EQ(row(found, "verbs").at("found"), "no device");
  EXPECT_EQ(row(found, "verbs").at("mend"), "plug one in");
}

TEST(DoctorCommand, rdma_is_had_from_any_chosen_transport_with_a_nic) {
  const auto by_verbs = doctor_with_stand_ins(
      {"pool.blocks=16", "agent.transports=ucx,verbs,tcp", "agent.require=rdma"}, 0);
  EXPECT_EQ(row(by_verbs, "rdma").at("found"), "by verbs");
  EXPECT_TRUE(row(by_verbs, "memlock").at("needed"));
  EXPECT_FALSE(row(by_verbs, "tcp").at("needed"));
  const auto not_chosen = doctor_with_stand_ins(
      {"pool.blocks=16", "agent.transports=ucx,tcp", "agent.require=rdma"}, 1);
  EXPECT_EQ(row(not_chosen, "ucx").at("state"), "ok");
  EXPECT_EQ(row(not_chosen, "rdma").at("state"), "no");
}

TEST(DoctorCommand, required_transport_that_is_not_in_the_list_is_a_failure) {
  const auto found = doctor({"pool.blocks=16", "agent.require=shm"}, 1);
  EXPECT_THAT(row(found, "agent.require").at("mend"), HasSubstr("add shm"));
}

TEST(DoctorCommand, no_transport_that_works_is_a_failure) {
  const auto found = doctor_with_stand_ins(
      {"pool.blocks=16", "agent.transports=ucx,pigeon", "ucx.devices=none"}, 1);
  EXPECT_TRUE(row(found, "ucx").at("needed"));
  EXPECT_THAT(row(found, "pigeon").at("mend"), HasSubstr("tcp"));
}

TEST(DoctorCommand, pool_beyond_the_memory_is_a_failure) {
  const auto found = doctor({"pool.bytes=500TiB", "content.layers=32"}, 1);
  EXPECT_EQ(row(found, "memory").at("state"), "no");
  EXPECT_THAT(row(found, "memory").at("found"), HasSubstr("500.0 TiB"));
  EXPECT_THAT(row(found, "memory").at("mend"), HasSubstr("pool.bytes"));
}

TEST(DoctorCommand, more_segments_than_descriptors_is_a_failure) {
  const std::vector<std::string> arguments = {"doctor", "--json", "--set=content.layers=1",
                                              "--set=pool.blocks=200", "--set=pool.segments=100"};
  const CommandResult result = run_command(arguments, {}, {"prlimit", "--nofile=100:100"});
  EXPECT_EQ(result.exit_code, 1) << result.errors << result.output;
  const auto few = row(nlohmann::json::parse(result.output), "descriptors");
  EXPECT_EQ(few.at("state"), "no");
  EXPECT_THAT(few.at("mend"), HasSubstr("LimitNOFILE"));
  EXPECT_EQ(run_command(arguments, {}, {"prlimit", "--nofile=100:1000"}).exit_code, 0);
}

TEST(DoctorCommand, address_that_cannot_be_bound_is_a_failure) {
  const auto elsewhere =
      doctor({"pool.blocks=16", "agent.listen=192.0.2.1:7070", "agent.token=x"}, 1);
  EXPECT_THAT(row(elsewhere, "tcp").at("found"), HasSubstr("192.0.2.1"));
  const auto open = doctor({"pool.blocks=16", "agent.listen=0.0.0.0:7070"}, 1);
  EXPECT_THAT(row(open, "tcp").at("mend"), HasSubstr("token"));
}

TEST(DoctorCommand, table_reads_the_file_and_marks_what_is_needed) {
  const std::string path = write_file(
      "doctor.toml", "[agent]\nrequire = [\"shm\"]\ntransports = [\"shm\"]\n[pool]\nblocks = 8\n");
  const CommandResult result = run_command({"doctor", "--config", path});
  EXPECT_EQ(result.exit_code, 0) << result.errors << result.output;
  for (const char* words :
       {"check", "mend", "shm socket *", "memory *", "the pool takes 16.0 MiB"}) {
    EXPECT_THAT(result.output, HasSubstr(words));
  }
}

TEST(DoctorCommand, unknown_key_is_wrong_usage) {
  EXPECT_EQ(run_command({"doctor", "--set", "pool.bites=1"}).exit_code, 2);
  EXPECT_EQ(run_command({"doctor", "--config", "/nowhere.toml"}).exit_code, 1);
}

}  // namespace
}  // namespace mempool
