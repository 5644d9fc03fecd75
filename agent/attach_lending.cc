// SPDX-License-Identifier: Apache-2.0
// Owns what an attached engine's session does with memory of the engine's own.
#include <algorithm>
#include <utility>

#include "agent/agent_impl.h"
#include "agent/attach_session.h"
#include "core/memory_mapping.h"

namespace mempool {

Status AttachSession::end_copy(const AttachCall& call) {
  for (const BlockAddress& block : call.blocks) {
    const auto begun = copies_.find(block);
    if (begun == copies_.end()) {
      return invalid_argument("attach frame: the end of a copy that was not begun");
    }
    copies_.erase(begun);
    calls_.end_copy({&block, 1});
  }
  return {};
}

AttachAnswer AttachSession::claim(const AttachCall& call) {
  AttachAnswer out;
  Result<std::vector<BlockAddress>> claimed = calls_.claim(call.name, call.indices);
  out.status = claimed.status();
  if (claimed.ok()) out.blocks = std::move(*claimed);
  return out;
}

Status AttachSession::adopt(const AttachCall& call) {
  std::vector<Descriptor> descriptors = link_->stream.take_descriptors();
  if (descriptors.size() != 1) {
    return invalid_argument("an engine beside its agent lends memory of a memfd, one for a shard");
  }
  MEMPOOL_ASSIGN_OR_RETURN(
      MemoryMapping mapping,
      MemoryMapping::map(descriptors[0], call.memory.bytes, Access::kReadWrite));
  struct Owner {
    MemoryMapping mapping;
    Descriptor descriptor;
  };
  const auto owner =
      std::make_shared<const Owner>(Owner{std::move(mapping), std::move(descriptors[0])});
  SegmentMemory memory;
  memory.data = owner->mapping.data();
  memory.bytes = call.memory.bytes;
  memory.descriptor = owner->descriptor.number();
  memory.owner = owner;
  AdoptOptions options;
  options.blocks = static_cast<uint32_t>(std::min<uint64_t>(call.count, UINT32_MAX));
  options.insert_in_place = call.in_place;
  AdoptedMemory shape = call.memory;
  shape.data = memory.data;
  std::vector<Agent::Impl::Lent> lent;
  lent.push_back({*shard_, shape, std::move(memory)});
  return agent_.adopt(id_, call.name, options, std::move(lent));
}

// The answer may come later: the engine waits for it, and asks nothing else meanwhile.
void AttachSession::withdraw(const AttachCall& call) {
  const auto wait =
      std::chrono::milliseconds(std::min<uint64_t>(call.deadline_ms, kWaitMax.count()));
  agent_.withdraw(call.name, agent_.now() + wait, [self = weak_from_this()](const Status& status) {
    const auto session = self.lock();
    if (session == nullptr || session->state_ != State::kAttached) return;
    AttachAnswer out;
    out.status = status;
    session->link_->stream.queue(out);
    session->flush(*session->link_);
  });
  agent_.request_pump();
}

}  // namespace mempool
