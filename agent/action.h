// SPDX-License-Identifier: Apache-2.0
// Owns what the state machines ask of their driver: Asio in the agent, the simulator in tests.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "agent/message.h"
#include "core/block_pool.h"
#include "mempool/agent.h"

namespace mempool {

/// Names a transfer at its source: the peer's name is in the machine, the id is the machine's own.
using TransferId = uint64_t;

/// Make a session to the peer; answer by on_session_up() or on_dial_failed().
struct DialPeer {
  std::string peer;
};
struct SendMessage {
  SessionId session = 0;
  Message message;
};
/// Be ready to move blocks between here and there; answer by on_data_done().
struct PostData {
  TransferId transfer = 0;
  SessionId session = 0;
  Slot slot;
  Operation operation = Operation::kWrite;
  std::vector<uint32_t> local_blocks;
  std::vector<uint32_t> remote_blocks;
};
/// Move these layers of it, after those before.
struct PostLayers {
  TransferId transfer = 0;
  LayerRange layers;
};
/// No more layers follow: notify the target behind the last write. Where `resum` is not empty, the
/// sums must first be made anew, as the target lays its blocks out: answer by on_resummed().
struct FinishData {
  struct Sum {  // the source's own
    uint32_t position = 0;
    uint32_t block = 0;
    uint64_t checksum = 0;
  };
  TransferId transfer = 0;
  std::vector<Sum> resum;
  std::vector<BlockLayout> target_layouts;  // by shard
};
/// Post nothing more of it; answer by on_data_done() once nothing reads its source blocks.
struct StopData {
  TransferId transfer = 0;
};
/// End the caller's wait.
struct EndCall {
  TransferId transfer = 0;
  Status status;
  TransferReport report;
  uint32_t fetched = 0;  // blocks of the request that a fetch has filled
};
/// Hash fetched blocks outside the lock, as the holder lays them out; answer by
/// on_fetch_verified().
struct VerifyFetch {
  TransferId transfer = 0;
  std::vector<uint32_t> blocks;
  std::vector<uint64_t> sums;               // what each should have
  std::vector<BlockLayout> holder_layouts;  // by shard
};
struct OpenSlot {
  SessionId session = 0;
  Slot slot;
};
struct CloseSlot {
  SessionId session = 0;
  Slot slot;
};
/// Hash these blocks outside the lock; answer by on_verified().
struct VerifyBlocks {
  SessionId session = 0;
  uint64_t number = 0;
  std::vector<uint32_t> blocks;
  std::vector<uint64_t> sums;  // what each should have
};
/// Make sure that no byte of the session's peer can land any more; answer by on_fenced(). The
/// session is over after that.
struct FencePeer {
  SessionId session = 0;
};
/// The session is over, and its peer asked for it: close the connection.
struct CloseSession {
  SessionId session = 0;
};
struct DeliverArrival {
  Arrival arrival;
  std::vector<BlockAddress> pinned;  // of its blocks, for the caller: those no engine has held
};

using Action = std::variant<DialPeer, SendMessage, PostData, PostLayers, FinishData, StopData,
                            EndCall, OpenSlot, CloseSlot, VerifyBlocks, VerifyFetch, FencePeer,
                            CloseSession, DeliverArrival>;

}  // namespace mempool
