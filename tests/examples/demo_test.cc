// SPDX-License-Identifier: Apache-2.0
// Owns the tests of the demo as a user runs it: two processes, real bytes, small pools.
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "examples/demo/conversations.h"
#include "examples/demo/models.h"

namespace mempool::demo {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

struct Outcome {
  int exit_code = -1;
  std::string errors;
  nlohmann::json json;
};

class Demo : public testing::Test {
 protected:
  std::string file(const std::string& ending) const {
    return testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() +
           ending;
  }
  std::string text_of(const std::string& path) const {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  Outcome run(const std::string& flags) const { return run(flags, file(".json")); }
  Outcome run(const std::string& flags, const std::string& json) const {
    std::remove(file(".json").c_str());
    const std::string command = std::string(MEMPOOL_DEMO_PROGRAM) + " " + flags + " --json " +
                                json + " >" + file(".out") + " 2>" + file(".err");
    const int result = std::system(command.c_str());
    return {WIFEXITED(result) ? WEXITSTATUS(result) : -1, text_of(file(".err")),
            nlohmann::json::parse(text_of(file(".json")), nullptr, false)};
  }
};

/// Check one run's figures against the prompts that it served.
void expect_consistent(const nlohmann::json& run,
                       const std::vector<std::vector<TokenId>>& prompts) {
  const ContentSpec& spec = model(run["model"].get<std::string>());
  const uint64_t block_bytes = make_layout(spec, Placement(), 1).value().block_bytes;
  const size_t requests = run["requests"].get<size_t>();
  ASSERT_GT(requests, 1u);
  ASSERT_LE(requests, prompts.size());
  uint64_t tokens = 0;
  uint64_t blocks = 0;
  for (size_t i = 0; i < requests; ++i) {
    tokens += prompts[i].size();
    blocks += (prompts[i].size() + spec.tokens_per_block - 1) / spec.tokens_per_block;
  }
  EXPECT_EQ(run["tokens"], tokens);
  const uint64_t moved = run["bytes_moved"].get<uint64_t>();
  EXPECT_EQ(moved + run["bytes_saved"].get<uint64_t>(), blocks * block_bytes);
  const bool discrete = run["placement"] == "discrete";
  EXPECT_EQ(run["paper_calls"], moved / block_bytes * (discrete ? 2 * spec.layers : 1));
  EXPECT_GT(run["network_calls"], 0);
  EXPECT_GT(run["system_calls"], 0);
  EXPECT_GT(run["hit_ratio"], 0);
  EXPECT_LT(run["hit_ratio"], 1);
  EXPECT_GT(run["gb_per_s"], 0);
  EXPECT_LE(run["latency_ms"]["p50"], run["latency_ms"]["p99"]);
  EXPECT_EQ(run["verified"], true);
}

/// Say which rows there are.
std::vector<std::string> rows_of(const nlohmann::json& document) {
  std::vector<std::string> rows;
  for (const nlohmann::json& run : document["runs"]) {
    std::string row;
    for (const char* member : {"model", "transport", "mode", "placement"}) {
      row += (row.empty() ? "" : " ") + run[member].get<std::string>();
    }
    rows.push_back(row);
  }
  return rows;
}

TEST_F(Demo, moves_conversations_of_every_model_in_every_way) {
  const Outcome outcome = run("--pool-bytes 384MiB --move-bytes 300MB --requests 12 --seed 3");
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  ConversationOptions options;
  options.seed = 3;
  options.requests = 12;
  const std::vector<std::vector<TokenId>> prompts = draw_conversations(options);
  for (const nlohmann::json& run : outcome.json["runs"]) expect_consistent(run, prompts);
  EXPECT_THAT(
      rows_of(outcome.json),
      ElementsAre("Llama-2-13B shm by_layer discrete", "Llama-2-13B shm by_request discrete",
                  "Llama-2-13B shm by_request aggregated", "Llama-2-13B tcp by_layer discrete",
                  "Llama-2-13B tcp by_request discrete", "Llama-2-13B tcp by_request aggregated",
                  "Llama-3-8B shm by_layer discrete", "Llama-3-8B shm by_request discrete",
                  "Llama-3-8B shm by_request aggregated", "Llama-3-8B tcp by_layer discrete",
                  "Llama-3-8B tcp by_request discrete", "Llama-3-8B tcp by_request aggregated"));
  EXPECT_EQ(outcome.json["paper_calls_1024_tokens"]["discrete"], 5120);
  EXPECT_EQ(outcome.json["paper_calls_1024_tokens"]["aggregated"], 64);
}

TEST_F(Demo, moves_the_same_out_of_and_into_tensors_of_the_engines_own) {
  const std::string flags = "--model Llama-3-8B --pool-bytes 192MiB --requests 12 --seed 3";
  const Outcome pool = run(flags);
  const Outcome engine = run(flags + " --memory engine");
  ASSERT_EQ(engine.exit_code, 0) << engine.errors;
  ASSERT_EQ(engine.json["runs"].size(), 6u);
  ConversationOptions options;
  options.seed = 3;
  options.requests = 12;
  const std::vector<std::vector<TokenId>> prompts = draw_conversations(options);
  for (size_t i = 0; i < 6; ++i) {
    const nlohmann::json& run = engine.json["runs"][i];
    expect_consistent(run, prompts);
    EXPECT_EQ(run["memory"], "engine");
    EXPECT_EQ(pool.json["runs"][i]["memory"], "pool");
    EXPECT_EQ(run["tokens"], pool.json["runs"][i]["tokens"]);
  }
  EXPECT_EQ(rows_of(engine.json), rows_of(pool.json));
}

TEST_F(Demo, runs_the_rows_that_are_asked_for) {
  const std::string small = " --model Llama-3-8B --pool-bytes 64MiB --requests 3";
  EXPECT_THAT(rows_of(run("--transports tcp,shm --modes by_layer" + small).json),
              ElementsAre("Llama-3-8B tcp by_layer discrete", "Llama-3-8B shm by_layer discrete"));
  EXPECT_THAT(
      rows_of(run("--transport shm --modes by_request" + small).json),
      ElementsAre("Llama-3-8B shm by_request discrete", "Llama-3-8B shm by_request aggregated"));
}

TEST_F(Demo, shows_why_a_transport_refuses_a_row_and_runs_the_others) {
  const Outcome outcome =
      run("--transports local,tcp --modes by_layer --model Llama-3-8B --pool-bytes 64MiB "
          "--requests 3");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.errors,
              EndsWith("rows that their transport refused: 1, of 2; see the table\n"));
  ASSERT_EQ(outcome.json["runs"].size(), 2u);
  EXPECT_THAT(outcome.json["runs"][0]["refused"].get<std::string>(),
              HasSubstr("is not in this process"));
  EXPECT_THAT(text_of(file(".out")), HasSubstr("local      by_layer    discrete    refused: "));
  EXPECT_EQ(outcome.json["runs"][0]["verified"], false);
  EXPECT_EQ(outcome.json["runs"][1]["verified"], true);
}

TEST_F(Demo, sets_what_it_is_told_of_a_transport_in_one_of_the_processes) {
  const std::string small =
      "--transports tcp --modes by_layer --model TinyLlama-1.1B --pool-bytes 16MiB --requests 3";
  const Outcome outcome = run(small + " --prefill tcp.streams=2 --decode tcp.streams=1000");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.json["runs"][0]["refused"].get<std::string>(),
              HasSubstr("streams = \"1000\": give a whole number from 1 to 64"));
  EXPECT_EQ(rows_of(run(small + " --prefill tcp.streams=2").json),
            std::vector<std::string>{"TinyLlama-1.1B tcp by_layer discrete"});
  for (const std::string setting : {"tcp.stream=1", "agent.name=other", "tcp.streams"}) {
    EXPECT_THAT(run(small + " --prefill " + setting).errors,
                HasSubstr("--prefill: " + setting + " sets nothing of a transport"));
  }
}

TEST_F(Demo, counts_hits_and_saved_blocks_of_a_trace_exactly) {
  // At 1/32 an id is one block: 21, 32 and 21 tokens, of which the second and the third request
  // find their first block at both sides; the fourth is larger than the pool of four blocks.
  std::ofstream(file(".jsonl"))
      << R"({"timestamp": 0, "input_length": 700, "output_length": 1, "hash_ids": [1, 2]})"
      << "\n"
      << R"({"timestamp": 1, "input_length": 1024, "output_length": 1, "hash_ids": [1, 3]})"
      << "\n"
      << R"({"timestamp": 2, "input_length": 700, "output_length": 1, "hash_ids": [1, 2]})"
      << "\n"
      << R"({"timestamp": 3, "input_length": 2560, "output_length": 1, "hash_ids": [4,5,6,7,8]})"
      << "\n";
  for (const std::string memory : {"pool", "engine"}) {
    const Outcome outcome = run("--model llama-3-8b --pool-bytes 8MiB --memory " + memory +
                                " --trace " + file(".jsonl"));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    ASSERT_EQ(outcome.json["runs"].size(), 6u);
    for (const nlohmann::json& run : outcome.json["runs"]) {
      EXPECT_EQ(run["requests"], 3);
      EXPECT_EQ(run["tokens"], 74);
      EXPECT_DOUBLE_EQ(run["hit_ratio"].get<double>(), 32.0 / 74);
      EXPECT_EQ(run["bytes_moved"], 4 * (2 << 20));
      EXPECT_EQ(run["bytes_saved"], 2 * (2 << 20));
    }
    EXPECT_THAT(text_of(file(".out")),
                HasSubstr("Llama-3-8B tcp by_layer discrete: prompts skipped: 1,"));
  }
}

TEST_F(Demo, fails_when_one_byte_is_wrong_and_names_it) {
  for (const std::string memory : {"pool", "engine"}) {
    for (const std::string mode : {"by_layer", "by_request"}) {
      const Outcome outcome = run("--model Llama-3-8B --pool-bytes 64MiB --requests 3 --memory " +
                                  memory + " --modes " + mode + " --corrupt-request 1");
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.errors, HasSubstr("decode: CORRUPTION: request 1: block host/"));
      EXPECT_THAT(outcome.errors, HasSubstr("layer 16, part 1, token 0, head 0"));
      EXPECT_EQ(outcome.json["runs"][0]["mode"], mode);
      EXPECT_EQ(outcome.json["runs"][0]["memory"], memory);
      EXPECT_EQ(outcome.json["runs"][0]["verified"], false);
    }
  }
}

TEST_F(Demo, finds_that_it_cannot_write_the_json_before_it_moves_anything) {
  const Outcome outcome = run("--requests 3", "/nowhere/demo.json");
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.errors,
            "mempool_demo: /nowhere/demo.json: cannot write it: No such file or directory\n");
}

TEST_F(Demo, says_in_one_line_what_input_it_refuses) {
  std::ofstream(file(".jsonl")) << "{}\n";
  const auto expect_refused = [this](const std::string& flags, const std::string& words) {
    const Outcome outcome = run(flags);
    EXPECT_NE(outcome.exit_code, 0) << flags;
    EXPECT_THAT(outcome.errors, HasSubstr(words));
    EXPECT_THAT(outcome.errors, EndsWith("\n"));
    EXPECT_EQ(outcome.errors.find('\n'), outcome.errors.size() - 1) << outcome.errors;
  };
  expect_refused("--trace " + file(".jsonl"), "line 1: 'input_length' is missing");
  expect_refused("--trace " + file(".not"), "No such file");
  expect_refused("--pool-bytes 1000TiB", "give a smaller --pool-bytes");
  expect_refused("--pool-bytes many", "is no size");
  expect_refused("--move-bytes 0", "give at least 1 byte");
  expect_refused("--model GPT-5", "--model");
  expect_refused("--transports tcp,pigeons", "pigeons");
  expect_refused("--modes by_token", "by_token");
  expect_refused("--memory disk", "--memory");
  expect_refused("--memory disk", "disk");
}

}  // namespace
}  // namespace mempool::demo
