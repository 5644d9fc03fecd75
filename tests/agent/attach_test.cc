// SPDX-License-Identifier: Apache-2.0
// Owns the checks of engines that attach to their agents.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <fstream>
#include <future>
#include <optional>

#include "agent/attach_stream.h"
#include "core/unix_socket.h"
#include "tests/agent/attach_fixture.h"

namespace mempool {
namespace {

using namespace std::chrono_literals;
using testing::attach_engine;
using testing::fill;
using testing::filled_blocks;
using testing::holds;
using testing::is_readable;
using testing::make_tokens;
using testing::small_options;
using testing::small_spec;
using testing::start_agent;
using testing::wait_until;

using AttachTest = testing::AttachFixture;

TEST_F(AttachTest, an_engine_writes_where_the_agent_reads) {
  const auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*engine, tokens);
  const auto inserted = engine->insert({content_, tokens}, blocks);
  ASSERT_TRUE(inserted.ok()) << inserted.status().to_string();
  EXPECT_EQ(inserted->serving, blocks);
  const MatchResult inside = prefill_->match({content_, tokens});
  ASSERT_EQ(inside.blocks, blocks);
  EXPECT_TRUE(holds(*prefill_, blocks[0], tokens[0]));
  EXPECT_TRUE(holds(*prefill_, blocks[1], tokens[4]));
  EXPECT_TRUE(prefill_->unpin(inside.blocks).ok());

  const MatchResult outside = engine->match({content_, tokens});
  EXPECT_EQ(outside.blocks, blocks);
  EXPECT_EQ(outside.tokens, 8u);
  std::vector<std::byte> copy(engine->layout().block_bytes);
  ASSERT_TRUE(engine->read(blocks[1], copy).ok());
  EXPECT_EQ(copy[0], testing::kv_byte(tokens[4], 0, 0, 0));
  EXPECT_TRUE(engine->unpin(outside.blocks).ok());
  EXPECT_TRUE(engine->unpin(blocks).ok());
  EXPECT_EQ(engine->erase({content_, tokens}), 1u);
  EXPECT_EQ(engine->match({content_, tokens}).tokens, 4u);
}

TEST_F(AttachTest, blocks_reach_over_every_segment) {
  const auto engine = attach_engine(prefill_path_);
  const uint64_t total = prefill_->status().total;
  const auto tokens = make_tokens(4 * total);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_EQ(blocks.size(), total);
  for (size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_TRUE(holds(*prefill_, blocks[i], tokens[4 * i])) << i;
  }
  EXPECT_EQ(engine->alloc(1).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(engine->free(blocks).ok());
}

TEST_F(AttachTest, a_segment_lies_where_its_pieces_do_inside_and_beside) {
  const auto engine = attach_engine(prefill_path_);
  for (Pool* pool : {static_cast<Pool*>(prefill_.get()), engine.get()}) {
    size_t seen = 0;
    Result<SegmentView> view = pool->segment(0);
    for (size_t segment = 0; view.ok(); view = pool->segment(++segment)) {
      EXPECT_FALSE(view->adopted);
      EXPECT_EQ(view->element, small_spec().element);
      EXPECT_EQ(view->first_block, seen);
      seen += view->blocks;
    }
    EXPECT_EQ(view.status().code(), StatusCode::kNotFound);
    EXPECT_EQ(pool->segment(0, pool->shards()).status().code(), StatusCode::kNotFound);
    EXPECT_EQ(seen, prefill_->status().total);
    const auto blocks = pool->alloc(seen).value();
    for (const BlockAddress& block : blocks) {
      SegmentView its = pool->segment(0).value();
      for (size_t at = 1; block.index() >= its.first_block + its.blocks; ++at) {
        its = pool->segment(at).value();
      }
      const uint64_t offset = its.layout.piece_offset(block.index() - its.first_block, 1, 1);
      EXPECT_EQ(its.data + offset, pool->piece(block, 1, 1)->data()) << block.index();
    }
    EXPECT_TRUE(pool->free(blocks).ok());
  }
}

TEST_F(AttachTest, keys_are_for_attached_engines_too) {
  const auto engine = attach_engine(prefill_path_);
  const auto blocks = filled_blocks(*engine, make_tokens(8));
  const std::vector<std::string_view> keys = {"one", "two"};
  ASSERT_TRUE(engine->insert_keys(keys, blocks).ok());
  const auto held = prefill_->match_keys(keys);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(*held, blocks);
  EXPECT_TRUE(prefill_->unpin(*held).ok());
  EXPECT_EQ(engine->match_keys(keys)->size(), 2u);
  EXPECT_EQ(*engine->erase_keys(keys), 2u);
  EXPECT_EQ(engine->match_keys(keys)->size(), 0u);
}

TEST_F(AttachTest, a_freed_block_is_stale_before_the_agent_is_asked) {
  const auto engine = attach_engine(prefill_path_);
  const auto blocks = filled_blocks(*engine, make_tokens(4));
  ASSERT_TRUE(engine->free(blocks).ok());
  EXPECT_EQ(engine->piece(blocks[0], 0, 0).status().code(), StatusCode::kStale);
  EXPECT_EQ(engine->free(blocks).code(), StatusCode::kStale);
  BlockAddress foreign = blocks[0];
  ++foreign.incarnation;
  EXPECT_EQ(engine->piece(foreign, 0, 0).status().code(), StatusCode::kStale);
  EXPECT_EQ(engine->piece(BlockAddress::make(blocks[0].incarnation, 1, Medium::kHost, 1000), 0, 0)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

TEST_F(AttachTest, engines_do_not_free_what_is_not_theirs) {
  const auto engine = attach_engine(prefill_path_);
  const auto blocks = filled_blocks(*prefill_, make_tokens(4));
  EXPECT_EQ(engine->free(blocks).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->unpin(blocks).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(prefill_->free(blocks).ok());
}

TEST_F(AttachTest, bytes_that_changed_after_the_seal_are_not_read) {
  const auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  (*engine->piece(blocks[0], 1, 1))[5] ^= std::byte{1};
  std::vector<std::byte> copy(engine->layout().block_bytes);
  EXPECT_EQ(engine->read(blocks[0], copy).code(), StatusCode::kCorruption);
  EXPECT_EQ(engine->match({content_, tokens}).tokens, 0u);
}

TEST_F(AttachTest, an_engine_that_detaches_gives_everything_back) {
  auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(12);
  const auto blocks = filled_blocks(*engine, tokens);
  ASSERT_TRUE(
      engine->insert({content_, std::span(tokens).first(8)}, std::span(blocks).first(2)).ok());
  EXPECT_EQ(prefill_->status().engines.size(), 1u);
  engine.reset();
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_EQ(prefill_->status().engines.size(), 0u);
  EXPECT_EQ(prefill_->match({content_, tokens}).tokens, 8u);  // what was published stays
}

TEST_F(AttachTest, the_next_engine_finds_what_the_last_one_inserted) {
  const auto tokens = make_tokens(8);
  {
    const auto engine = attach_engine(prefill_path_);
    const auto blocks = filled_blocks(*engine, tokens);
    ASSERT_TRUE(engine->insert({content_, tokens}, blocks).ok());
  }
  ASSERT_TRUE(wait_until([this] { return prefill_->status().engines.empty(); }));
  const auto engine = attach_engine(prefill_path_);
  const MatchResult found = engine->match({content_, tokens});
  ASSERT_EQ(found.tokens, 8u);
  EXPECT_TRUE(holds(*engine, found.blocks[1], tokens[4]));
}

TEST_F(AttachTest, an_engine_is_told_when_its_agent_has_gone) {
  const auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  TransferOptions options;
  options.mode = TransferMode::kByLayer;  // stays open
  auto transfer = engine->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  prefill_.reset();
  EXPECT_FALSE(transfer->wait().ok());
  EXPECT_EQ(engine->alloc(1).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(engine->receive(10s).status().code(), StatusCode::kUnavailable);
  EXPECT_EQ(engine->match({content_, tokens}).tokens, 0u);
  EXPECT_TRUE(engine->piece(blocks[0], 0, 0).ok());  // its memory is there as long as the engine
}

TEST_F(AttachTest, one_rank_has_one_engine) {
  const auto engine = attach_engine(prefill_path_);
  AttachOptions options;
  options.path = prefill_path_;
  EXPECT_EQ(attach(options).status().code(), StatusCode::kAlreadyExists);
  options.shard = 1;
  options.shards = 2;
  EXPECT_EQ(attach(options).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(AttachTest, an_engine_of_another_placement_is_refused) {
  AttachOptions options;
  options.path = prefill_path_;
  options.placement.emplace().form = BlockForm::kAggregated;
  EXPECT_EQ(attach(options).status().code(), StatusCode::kInvalidArgument);
  options.placement->form = BlockForm::kDiscrete;
  EXPECT_TRUE(attach(options).ok());
}

TEST_F(AttachTest, where_no_agent_listens_an_engine_is_told) {
  AttachOptions options;
  options.path = folder_ / "nobody.sock";
  EXPECT_EQ(attach(options).status().code(), StatusCode::kUnavailable);
  options.path = std::string(200, 'x');
  EXPECT_EQ(attach(options).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(AttachTest, the_socket_of_a_dead_agent_is_taken_over_and_that_of_a_living_one_is_not) {
  AgentOptions options = small_options("second");
  options.engine_socket = prefill_path_;
  const auto refused = Agent::start(options);
  EXPECT_EQ(refused.status().code(), StatusCode::kAlreadyExists);
  EXPECT_TRUE(attach_engine(prefill_path_)->alloc(1).ok());

  options.engine_socket = folder_ / "dead.sock";
  {  // what a killed agent leaves: a socket, and a lock that nobody holds
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, options.engine_socket.c_str());
    const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(socket.number(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    std::ofstream(options.engine_socket + ".lock");
  }
  const auto agent = start_agent(options);
  ASSERT_NE(agent, nullptr);
  EXPECT_TRUE(attach_engine(options.engine_socket)->alloc(1).ok());
}

TEST_F(AttachTest, what_is_no_frame_ends_that_engine_and_no_other) {
  const auto engine = attach_engine(prefill_path_);
  for (const uint32_t length : {8u, 0x7fffffffu}) {
    std::string bytes(sizeof length, '\0');
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes += "no frame";
    auto socket = dial_unix(prefill_path_);
    ASSERT_TRUE(socket.ok());
    ASSERT_TRUE(send_some(socket->number(), std::as_bytes(std::span(bytes))).ok());
    EXPECT_TRUE(is_readable(socket->number(), 30000));  // the end of it
    char byte = 0;
    EXPECT_EQ(::read(socket->number(), &byte, 1), 0);
  }
  EXPECT_TRUE(engine->alloc(1).ok());
}

TEST_F(AttachTest, what_does_not_fit_a_frame_is_refused_and_the_engine_stays) {
  const auto engine = attach_engine(prefill_path_);
  EXPECT_EQ(engine->alloc(size_t{5} << 20).status().code(), StatusCode::kInvalidArgument);
  const auto tokens = make_tokens(4);
  const auto blocks = filled_blocks(*engine, tokens);
  EXPECT_EQ(engine->transfer_with_insert(std::string(300, 'x'), {content_, tokens}, blocks)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
  TransferOptions options;
  options.trace = std::string(300, 't');
  const auto transfer = engine->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  EXPECT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
}

TEST_F(AttachTest, whoever_waits_for_arrivals_is_told_that_the_engine_detaches) {
  auto engine = attach_engine(prefill_path_);
  std::promise<pid_t> thread;
  auto waits = std::async(std::launch::async, [&, pool = engine.get()] {
    thread.set_value(gettid());
    return pool->receive(60s).status();
  });
  const std::string state = fmt::format("/proc/self/task/{}/stat", thread.get_future().get());
  ASSERT_TRUE(wait_until([&] {  // it sleeps in there
    std::string line;
    std::getline(std::ifstream(state), line);
    return line.find(") S ") != std::string::npos;
  }));
  engine.reset();
  EXPECT_EQ(waits.get().code(), StatusCode::kCancelled);
}

TEST_F(AttachTest, the_path_of_a_socket_that_is_a_file_is_left_alone) {
  AgentOptions options = small_options("second");
  options.engine_socket = folder_ / "settings.toml";
  std::ofstream(options.engine_socket) << "precious";
  EXPECT_EQ(Agent::start(options).status().code(), StatusCode::kAlreadyExists);
  std::string kept;
  std::ifstream(options.engine_socket) >> kept;
  EXPECT_EQ(kept, "precious");
}

/// An engine that says what none of ours does. Thread: confined.
class RudeEngine {
 public:
  explicit RudeEngine(Descriptor socket) : stream_(std::move(socket)) {
    say(AttachHello{});
    const auto welcome = hear();
    EXPECT_TRUE(welcome && std::holds_alternative<AttachWelcome>(*welcome));
    say(AttachCall{.operation = AttachOperation::kMap});
  }
  void say(const AttachFrame& frame) {
    stream_.queue(frame);
    (void)stream_.flush();  // the agent may have closed
  }
  /// None when the agent has closed.
  std::optional<AttachFrame> hear() {
    for (;;) {
      auto frame = stream_.next();
      EXPECT_TRUE(frame.ok());
      if (frame->has_value()) return std::move(*frame);
      if (!stream_.receive().ok()) return std::nullopt;
    }
  }
  AttachAnswer ask(const AttachCall& call) {
    say(call);
    auto frame = hear();
    EXPECT_TRUE(frame && std::holds_alternative<AttachAnswer>(*frame));
    return std::get<AttachAnswer>(*frame);
  }
  void detach() { say(AttachCall{.operation = AttachOperation::kDetach}); }

 private:
  AttachStream stream_;
};

TEST_F(AttachTest, an_engine_that_comes_while_descriptors_are_out_is_served_later) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer needs descriptors for its own checks";
#endif
  const auto other = attach_engine(prefill_path_);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ASSERT_GE(next, 0);
  ::close(next);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  auto socket = dial_unix(prefill_path_);  // takes the last one
  EXPECT_TRUE(other->alloc(1).ok());       // by then the agent has tried to take its end
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(socket.ok()) << socket.status().to_string();
  const RudeEngine engine(std::move(*socket));  // it is told that the rank is taken
}

TEST_F(AttachTest, calls_that_no_engine_of_ours_makes_harm_nobody_else) {
  using enum AttachOperation;
  const auto tokens = make_tokens(8);
  const std::vector<AttachCall> rude = {
      {.operation = kEndRead, .corrupt = true},
      {.operation = kEndRead, .blocks = {BlockAddress()}, .corrupt = true},
      {.operation = kReceived},
      {.operation = kLayersReady, .ticket = 1, .layers = {0, 3}},
      {.operation = kCommit, .ticket = 1, .sums = {{9, 9}}},
      {.operation = kBeginRead},
      {.operation = kTransfer, .ticket = 1, .content = content_, .tokens = tokens},
      {.operation = kInsert, .content = content_, .tokens = tokens},
      {.operation = kAlloc, .count = uint64_t{1} << 60},
  };
  for (AttachCall call : rude) {
    AgentOptions options = small_options("prefill");  // of its own: its rank stays taken
    options.engine_socket = folder_ / "rude.sock";
    options.peers["decode"] = decode_->status().listen;
    const auto agent = start_agent(options);
    ASSERT_NE(agent, nullptr);
    RudeEngine engine(dial_unix(options.engine_socket).value());
    const AttachAnswer held = engine.ask({.operation = kAlloc, .count = 2});
    ASSERT_TRUE(engine
                    .ask({.operation = kTransfer,
                          .ticket = 1,
                          .content = content_,
                          .tokens = tokens,
                          .blocks = held.blocks,
                          .name = "decode",
                          .in_layers = true})
                    .status.ok());
    if (call.operation == kEndRead && !call.blocks.empty()) call.blocks = {held.blocks[0]};
    engine.say(call);  // an answer, or the end of this engine; never that of the agent
    engine.detach();
    while (engine.hear()) {
    }
    EXPECT_TRUE(agent->alloc(1).ok()) << static_cast<int>(call.operation);
    EXPECT_TRUE(agent->status().audit.ok()) << static_cast<int>(call.operation);
  }
}

// ---- transfers ---------------------------------------------------------------------------------

class AttachTransferTest : public testing::AttachFixture {
 protected:
  void expect_arrival(Pool& engine, const std::vector<TokenId>& tokens) {
    auto arrival = engine.receive(30s);
    ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
    EXPECT_EQ(arrival->tokens, tokens);
    for (size_t i = 0; i < arrival->blocks.size(); ++i) {
      EXPECT_TRUE(holds(engine, arrival->blocks[i], tokens[4 * i])) << i;
    }
    EXPECT_EQ(engine.match({content_, tokens}).tokens, tokens.size() / 4 * 4);
    EXPECT_TRUE(engine.unpin(arrival->blocks).ok());
  }
};

TEST_P(AttachTransferTest, kv_goes_from_engine_to_engine) {
  const auto source = attach_engine(prefill_path_);
  const auto target = attach_engine(decode_path_);
  const auto arrived = target->arrival_descriptor();
  ASSERT_TRUE(arrived.ok());
  EXPECT_FALSE(is_readable(*arrived, 0));
  const auto tokens = make_tokens(14);
  const auto blocks = filled_blocks(*source, tokens);
  TransferOptions options;
  options.request_id = 42;
  options.user_data = {std::byte{7}};
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
  const auto ended = transfer->event_descriptor();
  ASSERT_TRUE(ended.ok());
  EXPECT_TRUE(is_readable(*ended, 30000));
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_EQ(transfer->report().transport, GetParam());
  EXPECT_EQ(transfer->report().bytes, 4 * source->layout().block_bytes);
  EXPECT_TRUE(is_readable(*arrived, 30000));
  auto arrival = target->receive(30s);
  ASSERT_TRUE(arrival.ok()) << arrival.status().to_string();
  EXPECT_FALSE(is_readable(*arrived, 0));
  EXPECT_EQ(arrival->request_id, 42u);
  EXPECT_EQ(arrival->user_data, options.user_data);
  EXPECT_EQ(arrival->source, "prefill");
  EXPECT_EQ(arrival->last_block_tokens, 2u);
  EXPECT_EQ(arrival->tokens, tokens);
  ASSERT_EQ(arrival->blocks.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(holds(*target, arrival->blocks[i], tokens[4 * i]));

  // Decode goes on in the private tail, and inserts the longer prompt.
  const auto longer = make_tokens(16);
  fill(*target, arrival->blocks[3], longer[12]);
  ASSERT_TRUE(target->insert({content_, longer}, arrival->blocks).ok());
  EXPECT_EQ(target->match({content_, longer}).tokens, 16u);
  std::vector<std::byte> copy(target->layout().block_bytes);
  EXPECT_TRUE(target->read(arrival->blocks[3], copy).ok());
}

TEST_P(AttachTransferTest, kv_goes_by_layer_behind_fences) {
  const auto source = attach_engine(prefill_path_);
  const auto target = attach_engine(decode_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok());
  const Fence last = Fence::pending();
  ASSERT_TRUE(transfer->send_layers(0, 2).ok());
  EXPECT_EQ(transfer->send_layers(1, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(transfer->commit().code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(transfer->send_layers(2, 1, last).ok());
  ASSERT_TRUE(transfer->commit().ok());
  EXPECT_FALSE(transfer->done());
  last.signal();
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  expect_arrival(*target, tokens);
}

TEST_P(AttachTransferTest, kv_goes_by_request_behind_a_fence) {
  const auto source = attach_engine(prefill_path_);
  const auto target = attach_engine(decode_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  TransferOptions options;
  options.ready = Fence::pending();
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok());
  options.ready.signal();
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  expect_arrival(*target, tokens);
}

TEST_P(AttachTransferTest, kv_is_fetched) {
  const auto source = attach_engine(decode_path_);
  const auto engine = attach_engine(prefill_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  ASSERT_TRUE(source->insert({content_, tokens}, blocks).ok());
  for (const uint64_t here_before : {0u, 8u}) {  // then there is nobody to ask
    auto transfer = engine->fetch("decode", {content_, tokens});
    ASSERT_TRUE(transfer.ok()) << transfer.status().to_string();
    ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
    EXPECT_EQ(transfer->report().tokens_matched, here_before);
    const std::vector<BlockAddress> serving = transfer->report().serving;
    ASSERT_EQ(serving.size(), 2u);
    EXPECT_TRUE(holds(*engine, serving[0], tokens[0]));
    EXPECT_TRUE(holds(*engine, serving[1], tokens[4]));
    EXPECT_TRUE(engine->unpin(serving).ok());
  }
}

TEST_P(AttachTransferTest, a_cancelled_transfer_ends_so) {
  const auto source = attach_engine(prefill_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks, options);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->send_layers(0, 1).ok());
  transfer->cancel();
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_EQ(transfer->send_layers(1, 1).code(), StatusCode::kUnavailable);
  EXPECT_TRUE(all_given_back(*decode_));
}

TEST_P(AttachTransferTest, stop_ends_what_waits_and_stays_attached) {
  auto source = attach_engine(prefill_path_);
  const auto tokens = make_tokens(8);
  const auto blocks = filled_blocks(*source, tokens);
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks,
                                               {.ready = Fence::pending()});
  ASSERT_TRUE(transfer.ok());
  const auto event = source->arrival_descriptor();
  ASSERT_TRUE(event.ok());
  EXPECT_FALSE(is_readable(*event, 0));
  source->stop();
  EXPECT_TRUE(is_readable(*event, 0));
  EXPECT_EQ(transfer->wait().code(), StatusCode::kCancelled);
  EXPECT_EQ(source->receive(1h).status().code(), StatusCode::kCancelled);
  const auto piece = source->piece(blocks[0], 0, 0);
  ASSERT_TRUE(piece.ok());
  (*piece)[0] = std::byte{1};
  EXPECT_GT(prefill_->status().pins, 0u);
  source.reset();
  EXPECT_TRUE(all_given_back(*prefill_));
}

TEST_P(AttachTransferTest, what_arrives_where_no_engine_is_attached_stays_in_the_index) {
  const auto source = attach_engine(prefill_path_);
  const auto tokens = make_tokens(10);
  const auto blocks = filled_blocks(*source, tokens);
  auto transfer = source->transfer_with_insert("decode", {content_, tokens}, blocks);
  ASSERT_TRUE(transfer.ok());
  ASSERT_TRUE(transfer->wait().ok()) << transfer->wait().to_string();
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(decode_->match({content_, tokens}).tokens, 8u);
}

TEST_P(AttachTransferTest, an_engine_that_leaves_takes_its_transfers_and_arrivals_with_it) {
  auto source = attach_engine(prefill_path_);
  auto target = attach_engine(decode_path_);
  const auto tokens = make_tokens(10);
  const auto blocks = filled_blocks(*source, tokens);
  auto first = source->transfer_with_insert("decode", {content_, tokens}, blocks);
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(first->wait().ok());
  TransferOptions options;
  options.mode = TransferMode::kByLayer;
  const auto others = make_tokens(8, 100);
  auto second = source->transfer_with_insert("decode", {content_, others},
                                             filled_blocks(*source, others), options);
  ASSERT_TRUE(second.ok());
  ASSERT_TRUE(second->send_layers(0, 1).ok());
  source.reset();
  target.reset();  // it has not received the first
  EXPECT_EQ(second->commit().code(), StatusCode::kUnavailable);
  EXPECT_TRUE(all_given_back(*prefill_));
  EXPECT_TRUE(all_given_back(*decode_));
  EXPECT_EQ(decode_->match({content_, others}).tokens, 0u);
  EXPECT_EQ(decode_->match({content_, tokens}).tokens, 8u);
}

INSTANTIATE_TEST_SUITE_P(Over, AttachTransferTest, ::testing::Values("tcp", "shm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mempool
