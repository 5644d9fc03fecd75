// SPDX-License-Identifier: Apache-2.0
// Owns the runs of the paged engines, in C++ and in C, each beside an agent that is a process too.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::Values;

/// A program and the lines that it prints. Thread: confined.
class Lines {
 public:
  explicit Lines(const std::string& command) : stream_(popen(command.c_str(), "r")) {}
  ~Lines() { end(); }
  /// The next line, empty after the last one.
  std::string next() {
    char line[256];
    return std::fgets(line, sizeof line, stream_) == nullptr ? "" : line;
  }
  /// Wait for its end, and give how: 0 when all went well.
  int end() { return stream_ == nullptr ? -1 : pclose(std::exchange(stream_, nullptr)); }

 private:
  FILE* stream_;
};

/// Transport, and the language of prefill and of decode.
using Pair = std::tuple<std::string, std::string, std::string>;

class PagedEngine : public ::testing::TestWithParam<Pair> {
 protected:
  void TearDown() override {  // the locks beside the sockets outlive the agents
    for (const char* name : {"prefill", "decode"}) {
      std::remove((socket_path(name) + ".lock").c_str());
    }
  }
  static std::string socket_path(const std::string& name) {
    return ::testing::TempDir() + "mempool_" + name + std::to_string(::getpid()) + ".sock";
  }
  static std::vector<std::string> beside(const std::string& name) {
    return {"--config",
            MEMPOOL_PAGED_ENGINE_TOML,
            "--agent.name=" + name,
            "--agent.engine_socket=" + socket_path(name),
            "--agent.transports=" + std::get<0>(GetParam()),
            "--verify.mode=always"};
  }

  static std::string program(const std::string& language) {
    return language == "cpp" ? MEMPOOL_PAGED_ENGINE : MEMPOOL_PAGED_ENGINE_C;
  }
  /// Start a program and read its first line; again where its agent has yet to notice the end of
  /// the engine before, which still has the rank.
  static std::pair<std::unique_ptr<Lines>, std::string> start_again(const std::string& command) {
    std::unique_ptr<Lines> program;
    std::string line;
    for (int attempt = 0; attempt < 100 && line.empty(); ++attempt) {
      program = std::make_unique<Lines>(command);
      line = program->next();
    }
    return {std::move(program), line};
  }

  BackgroundAgent prefill_agent_{beside("prefill")};
  BackgroundAgent decode_agent_{beside("decode")};
};

TEST_P(PagedEngine, a_prompt_is_computed_here_and_decoded_there) {
  const auto& [transport, prefill_language, decode_language] = GetParam();
  const std::string decode_command = program(decode_language) + " decode " + socket_path("decode");
  Lines decode(decode_command);
  ASSERT_EQ(decode.next(), "decode is attached\n");
  const std::string prefill_command = program(prefill_language) + " prefill " +
                                      socket_path("prefill") + " decode " +
                                      decode_agent_.ready("listen");
  Lines prefill(prefill_command);
  const size_t sent = 7 * 16 * size_t{4 * 2 * 2 * 64 * 2};  // whole blocks, the last one too
  EXPECT_EQ(prefill.next(), "prefill sent " + std::to_string(sent) + " bytes of 100 tokens over " +
                                transport + ", 0 tokens were cached\n");
  EXPECT_EQ(prefill.end(), 0);
  const size_t checked = 100 * size_t{4 * 2 * 2 * 64 * 2};
  EXPECT_EQ(decode.next(), "decode checked " + std::to_string(checked) +
                               " bytes from prefill, decoded 30 tokens, matched 128\n");
  EXPECT_EQ(decode.end(), 0);

  // The next pair finds what these two left behind.
  auto [decode_again, attached] = start_again(decode_command);
  ASSERT_EQ(attached, "decode is attached\n");
  auto [prefill_again, sent_again] = start_again(prefill_command);
  EXPECT_THAT(sent_again, HasSubstr("96 tokens were cached"));
  EXPECT_EQ(prefill_again->end(), 0);
  EXPECT_THAT(decode_again->next(), StartsWith("decode checked"));
  EXPECT_EQ(decode_again->end(), 0);
  EXPECT_EQ(prefill_agent_.end(SIGTERM), 0);
  EXPECT_EQ(decode_agent_.end(SIGTERM), 0);
}

INSTANTIATE_TEST_SUITE_P(Both, PagedEngine,
                         ::testing::Combine(Values("shm", "tcp"), Values("cpp", "c"),
                                            Values("cpp", "c")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param) + "_to_" +
                                  std::get<2>(info.param);
                         });

}  // namespace
}  // namespace mempool
