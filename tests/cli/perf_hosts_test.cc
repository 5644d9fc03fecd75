// SPDX-License-Identifier: Apache-2.0
// Owns the tests of `mempool perf serve`, `transfer --to` and `matrix` on loopback.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/listen_socket.h"
#include "core/timed_socket.h"
#include "perf/service_link.h"
#include "perf/transfer_server.h"
#include "tests/cli/command_process.h"
#include "transport/hello.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

Words joined(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// A case that is over soon.
const Words kSmall = {"--piece-bytes", "4KiB", "--pieces", "32", "--repeat", "1"};

Words transfer_to(const std::string& address, const Words& more) {
  return joined({"perf", "transfer", "--to", address}, joined(kSmall, more));
}

nlohmann::json rows_in(const CommandResult& result) {
  const auto document = nlohmann::json::parse(result.output, nullptr, false);
  EXPECT_TRUE(document.is_object()) << result.output << result.errors;
  return document.is_object() ? document.at("rows") : nlohmann::json::array();
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// Have the service get ready for a small case.
Status begin(ServiceLink& link) {
  const Status sent =
      link.channel.send({static_cast<uint32_t>(TransferOrder::kBegin), kServiceVersion,
                         print_case({.piece_bytes = 4096, .pieces = 32})});
  return sent.ok() ? await_answer(link.channel).status() : sent;
}

/// A service on loopback.
class PerfHosts : public ::testing::Test {
 protected:
  BackgroundCommand serve_{{"perf", "serve"}};
  const std::string at_ = serve_.ready("listen");
};

TEST_F(PerfHosts, each_transport_gives_a_row_and_one_that_cannot_its_refusal) {
  const std::string plot = write_file("rows.svg", "");
  const CommandResult result =
      run_command(transfer_to(at_, {"--transports", "tcp,shm,pigeon", "--op", "write,read",
                                    "--json", "-", "--plot", plot}));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const auto rows = rows_in(result);
  ASSERT_EQ(rows.size(), 6u);
  for (const size_t measured : {0, 1, 2, 3}) {
    EXPECT_GT(rows[measured].at("gb_per_s").at("median"), 0);
    EXPECT_GT(rows[measured].at("bare_gb_per_s").at("median"), 0);
    EXPECT_FALSE(rows[measured].contains("refused"));
  }
  EXPECT_EQ(rows[1].at("op"), "read");
  EXPECT_EQ(rows[2].at("transport"), "shm");
  EXPECT_FALSE(rows[5].contains("gb_per_s"));
  EXPECT_EQ(rows[5].at("refused").at("code"), "NOT_FOUND");
  EXPECT_THAT(std::string(rows[5].at("refused").at("reason")), HasSubstr("pigeon"));
  EXPECT_THAT(text_of(plot), HasSubstr("shm read scattered 4KiB"));
  EXPECT_THAT(text_of(plot), Not(HasSubstr("pigeon")));
  EXPECT_THAT(serve_.next_line(), HasSubstr("127.0.0.1: write over tcp, scattered, 32 pieces"));
}

TEST_F(PerfHosts, when_no_transport_can_the_table_says_why_and_the_exit_code_is_1) {
  const CommandResult result = run_command(transfer_to(at_, {"--transports", "pigeon,local"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("refused"));
  EXPECT_THAT(result.output, HasSubstr("no transport reaches 'target' (local"));
  EXPECT_THAT(result.errors, HasSubstr("mempool: no row could be measured"));
}

TEST_F(PerfHosts, service_outlives_a_client_that_leaves_in_the_middle) {
  {
    ServiceLink left = dial_service(at_, {}).value();
    ASSERT_TRUE(begin(left).ok());
  }
  EXPECT_THAT(serve_.next_line(), HasSubstr("127.0.0.1: write over tcp"));
  EXPECT_EQ(run_command(transfer_to(at_, {})).exit_code, 0);
}

TEST_F(PerfHosts, clients_take_turns) {
  const TimeLeft time_left(std::chrono::seconds(30));
  auto first = std::make_unique<ServiceLink>(dial_service(at_, {}).value());
  const Descriptor second = connect_to(at_, time_left).value();
  ASSERT_TRUE(send_all(second.number(), encode_hello({}), time_left).ok());
  ASSERT_TRUE(begin(*first).ok());
  pollfd wait{second.number(), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 0), 0) << "answered while the first is served";
  first.reset();
  std::array<std::byte, kAnswerBytes> answer;
  EXPECT_TRUE(receive_all(second.number(), answer, time_left).ok());
  EXPECT_TRUE(decode_answer(answer).ok());
}

TEST_F(PerfHosts, sigterm_ends_the_service_and_the_case_under_way) {
  ServiceLink link = dial_service(at_, {}).value();
  ASSERT_TRUE(begin(link).ok());
  EXPECT_EQ(serve_.end(SIGTERM), 0);
  EXPECT_EQ(link.channel.receive().status().code(), StatusCode::kUnavailable);
}

TEST_F(PerfHosts, client_of_another_version_is_told_to_upgrade_the_older) {
  ServiceLink link = dial_service(at_, {}).value();
  ASSERT_TRUE(
      link.channel
          .send({static_cast<uint32_t>(TransferOrder::kBegin), kServiceVersion + 1, print_case({})})
          .ok());
  const Status status = await_answer(link.channel).status();
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("speaks version 1, the client 2"));
}

TEST_F(PerfHosts, case_that_is_none_is_refused_with_its_reason) {
  for (const char* text : {"", "{}", R"({"transport": 7})", "nobody"}) {
    ServiceLink link = dial_service(at_, {}).value();
    ASSERT_TRUE(
        link.channel.send({static_cast<uint32_t>(TransferOrder::kBegin), kServiceVersion, text})
            .ok());
    EXPECT_THAT(await_answer(link.channel).status().to_string(), HasSubstr("malformed case"));
  }
}

TEST(PerfServe, other_token_is_refused_at_both_ends) {
  BackgroundCommand serve({"perf", "serve", "--set", "agent.token=secret"});
  const CommandResult result =
      run_command(transfer_to(serve.ready("listen"), {"--set", "agent.token=guess"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr(serve.ready("listen")));
  EXPECT_THAT(result.errors, HasSubstr("different tokens"));
  EXPECT_THAT(serve.next_line(), HasSubstr("127.0.0.1: PERMISSION_DENIED"));
  EXPECT_EQ(
      run_command(transfer_to(serve.ready("listen"), {}), {"MEMPOOL_AGENT_TOKEN=secret"}).exit_code,
      0);
}

TEST(PerfServe, beyond_loopback_it_refuses_to_start_without_a_token) {
  const CommandResult result = run_command({"perf", "serve", "--set", "agent.listen=0.0.0.0:0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, HasSubstr("0.0.0.0\" is not loopback and no shared token is set"));
}

TEST(PerfTransferTo, nobody_at_the_address_is_one_clear_error) {
  const ListenSocket closed = listen_on("127.0.0.1", 0, "").value();
  ::close(closed.descriptor);
  const std::string address = join_address(closed.host, closed.port);
  const CommandResult result = run_command(transfer_to(address, {}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_EQ(result.errors, "mempool: " + address + ": Connection refused\n");
  EXPECT_EQ(run_command(transfer_to("nowhere", {})).exit_code, 2);
}

/// Answer the next client with a greeting, whatever it says. Takes the listener.
void greet_next(const ListenSocket& listener, const std::string& words) {
  pollfd wait{listener.descriptor, POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 10000), 1);
  const int client = ::accept(listener.descriptor, nullptr, nullptr);
  ASSERT_GE(client, 0);
  EXPECT_EQ(::send(client, words.data(), words.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(words.size()));
  char byte = 0;
  while (::recv(client, &byte, 1, 0) > 0) continue;  // until it has understood
  ::close(client);
  ::close(listener.descriptor);
}

TEST(PerfTransferTo, port_of_something_else_is_said_to_be_no_service) {
  const ListenSocket listener = listen_on("127.0.0.1", 0, "").value();
  std::thread other(
      [&] { greet_next(listener, "SSH-2.0-of-some-version, and more than an answer has\r\n"); });
  const std::string address = join_address(listener.host, listener.port);
  const CommandResult result = run_command(transfer_to(address, {}));
  other.join();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr(address + " is no mempool perf serve: malformed handshake"));
}

TEST(PerfTransferTo, agent_is_said_to_be_no_service) {
  const BackgroundAgent agent({"--content.layers=1", "--pool.blocks=16"});
  const CommandResult result = run_command(transfer_to(agent.ready("listen"), {}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.errors, HasSubstr(agent.ready("listen") + " is no mempool perf serve"));
}

Words matrix_of(const std::string& hosts, const Words& more) {
  return joined({"perf", "matrix", "--hosts", write_file("hosts.toml", hosts)},
                joined(kSmall, more));
}

TEST_F(PerfHosts, matrix_measures_each_ordered_pair_and_tells_why_one_failed) {
  const BackgroundCommand second({"perf", "serve"});
  const ListenSocket closed = listen_on("127.0.0.1", 0, "").value();
  ::close(closed.descriptor);
  const std::string gone = join_address(closed.host, closed.port);
  const std::string hosts = "[peers]\na = \"" + at_ + "\"\nb = \"" + second.ready("listen") +
                            "\"\nc = \"" + gone + "\"\n";
  const std::string plot = write_file("matrix.svg", "");
  const std::string json = write_file("matrix.json", "");
  const CommandResult result =
      run_command(matrix_of(hosts, {"--transports", "tcp,shm", "--plot", plot, "--json", json}));
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("write over tcp, scattered, 32 pieces of 4KiB: GB/s"));
  EXPECT_THAT(result.output, HasSubstr("write over shm"));
  EXPECT_THAT(result.output, HasSubstr("from \\ to"));
  EXPECT_THAT(result.output, HasSubstr("c to a: UNAVAILABLE: " + gone));
  EXPECT_THAT(result.output, HasSubstr("a to c: UNAVAILABLE: " + gone));
  const auto rows = nlohmann::json::parse(text_of(json)).at("rows");
  ASSERT_EQ(rows.size(), 12u);
  EXPECT_EQ(rows[0].at("from"), "a");
  EXPECT_EQ(rows[0].at("to"), "b");
  EXPECT_GT(rows[0].at("gb_per_s").at("median"), 0);
  EXPECT_EQ(rows[1].at("refused").at("code"), "UNAVAILABLE");
  EXPECT_GT(rows[2].at("gb_per_s").at("median"), 0);
  EXPECT_THAT(text_of(plot), HasSubstr("write over shm"));
  EXPECT_THAT(serve_.next_line(), HasSubstr("towards " + second.ready("listen") + ": done"));
}

TEST(PerfMatrix, when_no_pair_gave_a_figure_the_exit_code_is_1) {
  const CommandResult result =
      run_command(matrix_of("[peers]\na = \"127.0.0.1:1\"\nb = \"127.0.0.1:2\"\n", {}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.output, HasSubstr("a to b: UNAVAILABLE"));
  EXPECT_THAT(result.errors, HasSubstr("no pair could be measured: 127.0.0.1:1"));
}

TEST(PerfMatrix, list_of_hosts_that_makes_no_matrix_is_wrong_usage) {
  const std::pair<const char*, const char*> wrong[] = {
      {"", "names 0 hosts; a matrix needs 2 or more"},
      {"[peers]\na = \"127.0.0.1:1\"\n", "names 1 hosts"},
      {"[peers]\na = \"127.0.0.1:1\"\na = \"127.0.0.1:2\"\n", "hosts.toml"},
      {"[peers]\na = \"127.0.0.1:1\"\nb = \"127.0.0.1:1\"\n", "peers.a and peers.b are both"},
      {"[peers]\na = \"127.0.0.1:1\"\nb = \"127.0.0.1\"\n", "peers.b: '127.0.0.1' is no address"},
      {"a = \"127.0.0.1:1\"\n", "unknown key"},
  };
  for (const auto& [hosts, words] : wrong) {
    const CommandResult result = run_command(matrix_of(hosts, {}));
    EXPECT_EQ(result.exit_code, 2) << hosts;
    EXPECT_THAT(result.errors, HasSubstr(words));
  }
  EXPECT_EQ(run_command({"perf", "matrix", "--hosts", "/nowhere/hosts"}).exit_code, 1);
}

}  // namespace
}  // namespace mempool
