// SPDX-License-Identifier: Apache-2.0
// Owns the tests of reading a trace file.
#include "examples/demo/trace_reader.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mempool::demo {
namespace {

using testing::HasSubstr;

constexpr const char* kLine =
    R"({"timestamp": 0, "input_length": 512, "output_length": 1, "hash_ids": [7]})";

class TraceReader : public testing::Test {
 protected:
  TraceReader()
      : path_(testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() +
              ".jsonl") {}
  void write(const std::string& text) { std::ofstream(path_) << text; }

  const std::string path_;
};

TEST_F(TraceReader, gives_as_many_prompts_as_are_asked_for) {
  write(std::string(kLine) + "\n" + kLine + "\n" + kLine + "\n");
  EXPECT_EQ(read_trace(path_, 32, 2).value().size(), 2u);
  EXPECT_EQ(read_trace(path_, 32, 9).value().size(), 3u);
  EXPECT_EQ(read_trace(path_, 128, 9).value()[0].size(), 4u);
}

TEST_F(TraceReader, names_the_line_that_is_no_request) {
  write(std::string(kLine) + "\nnot a request\n");
  EXPECT_EQ(read_trace(path_, 32, 1).value().size(), 1u) << "what is not asked for is not read";
  const Status status = read_trace(path_, 32, 2).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + " line 2: not JSON"));
}

TEST_F(TraceReader, reads_a_last_line_without_its_end_and_stops_at_one_that_is_too_long) {
  write(std::string(kLine) + "\n" + kLine);
  EXPECT_EQ(read_trace(path_, 32, 9).value().size(), 2u);
  write(std::string(1 << 20, ' ') + kLine + "\n");
  EXPECT_THAT(std::string(read_trace(path_, 32, 9).status().message()),
              HasSubstr("65537 bytes long"));
}

TEST_F(TraceReader, refuses_a_file_without_requests_a_missing_one_and_an_odd_scale) {
  write("");
  EXPECT_THAT(std::string(read_trace(path_, 32, 1).status().message()), HasSubstr("no request"));
  const Status missing = read_trace(path_ + ".not", 32, 1).status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("No such file"));
  EXPECT_THAT(std::string(read_trace(path_, 3, 1).status().message()), HasSubstr("scale 3"));
  EXPECT_FALSE(read_trace(path_, 0, 1).ok());
}

}  // namespace
}  // namespace mempool::demo
