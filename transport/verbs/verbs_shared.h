// SPDX-License-Identifier: Apache-2.0
// Owns what the parts of one verbs transport have in common.
#pragma once

#include <memory>
#include <vector>

#include "transport/event_queue.h"
#include "transport/verbs/completion_channel.h"
#include "transport/verbs/verbs_memory.h"
#include "transport/verbs/verbs_options.h"

namespace mempool {

class VerbsEndpoint;

/// Thread: confined to the loop's thread.
struct VerbsShared {
  VerbsShared(Loop& runs, VerbsOptions given, uint64_t own, VerbsDevices opened,
              std::vector<std::unique_ptr<CompletionChannel>> made,
              std::shared_ptr<EventQueue> queue)
      : loop(runs),
        options(std::move(given)),
        incarnation(own),
        devices(std::move(opened)),
        channels(std::move(made)),
        memory(devices),
        events(std::move(queue)) {}

  Loop& loop;
  const VerbsOptions options;
  const uint64_t incarnation;
  const VerbsDevices devices;
  const std::vector<std::unique_ptr<CompletionChannel>> channels;  // one a device
  VerbsMemory memory;
  const std::shared_ptr<EventQueue> events;
  Capabilities capabilities;
  std::vector<VerbsEndpoint*> endpoints;
  CallCounts ended;  // of endpoints that are gone
  // Lists of work requests are made here; they are used up inside ibv_post_send().
  std::vector<ibv_send_wr> requests;
  std::vector<ibv_sge> pieces;
};

}  // namespace mempool
