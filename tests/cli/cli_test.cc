// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the command's outermost words: help, version and wrong usage.
#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mempool/version.h"
#include "tests/cli/command_process.h"

namespace mempool {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Cli, version_is_that_of_the_library) {
  const CommandResult result = run_command({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, std::string(version()) + "\n");
}

TEST(Cli, help_names_every_subcommand_and_shows_examples) {
  const CommandResult result = run_command({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const char* word : {"agent", "status", "perf", "Examples:", "Exit codes:"}) {
    EXPECT_THAT(result.output, HasSubstr(word));
  }
}

TEST(Cli, every_subcommand_has_help_with_an_example) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"agent"},
                                             {"status"},
                                             {"perf"},
                                             {"perf", "transfer"},
                                             {"perf", "alloc"},
                                             {"perf", "index"}}) {
    std::vector<std::string> arguments = words;
    arguments.push_back("--help");
    const CommandResult result = run_command(arguments);
    EXPECT_EQ(result.exit_code, 0) << words.back();
    EXPECT_THAT(result.output, HasSubstr("Example")) << words.back();
  }
}

TEST(Cli, wrong_usage_is_one_line_and_exit_code_2) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {}, {"dance"}, {"status"}, {"perf"}, {"perf", "alloc", "--batch", "many"}}) {
    const CommandResult result = run_command(words);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(words);
    EXPECT_THAT(result.errors, StartsWith("mempool: "));
    EXPECT_EQ(std::ranges::count(result.errors, '\n'), 1) << result.errors;
    EXPECT_EQ(result.output, "");
  }
}

}  // namespace
}  // namespace mempool
