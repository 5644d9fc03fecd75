// SPDX-License-Identifier: Apache-2.0
// Owns both ways to have blocks, and the order in which an engine uses its own ones anew.
#include "examples/demo/kv_memory.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "core/check.h"
#include "core/host_memory.h"

namespace mempool::demo {
namespace {

class PoolMemory final : public KvMemory {
 public:
  explicit PoolMemory(Agent& agent) : agent_(agent) {}

  Status extend(std::vector<BlockAddress>& blocks, size_t count) override {
    if (blocks.size() >= count) return {};
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> more,
                             agent_.alloc(count - blocks.size()));
    blocks.insert(blocks.end(), more.begin(), more.end());
    return {};
  }
  Status let_go(std::span<const BlockAddress> blocks) override { return agent_.unpin(blocks); }
  Result<std::byte*> piece(const BlockAddress& block, uint32_t layer, uint32_t part) override {
    MEMPOOL_ASSIGN_OR_RETURN(const std::span<std::byte> piece, agent_.piece(block, layer, part));
    return piece.data();
  }
  Status end() override { return {}; }

 private:
  Agent& agent_;
};

/// Numbers are the engine's own, from 0; addresses are what the agent calls them.
class TensorMemory final : public KvMemory {
 public:
  TensorMemory(Agent& agent, HostMemory memory, const BlockLayout& layout, uint32_t blocks)
      : agent_(agent), memory_(std::move(memory)), layout_(layout), oldest_first_(blocks) {
    std::iota(oldest_first_.begin(), oldest_first_.end(), 0u);
  }

  Status adopt() {
    const AdoptedMemory shape = {memory_.data(),       memory_.size(),       memory_.descriptor(),
                                 layout_.block_stride, layout_.layer_stride, layout_.part_stride};
    return agent_.adopt(kName, {static_cast<uint32_t>(oldest_first_.size()), {shape}, true});
  }

  Status extend(std::vector<BlockAddress>& blocks, size_t count) override {
    if (blocks.size() >= count) return {};
    const size_t missing = count - blocks.size();
    if (count > oldest_first_.size()) {
      return resource_exhausted(
          fmt::format("{} blocks are needed, the tensors have {}", count, oldest_first_.size()));
    }
    use(blocks);
    std::vector<uint32_t> numbers(oldest_first_.begin(), oldest_first_.begin() + missing);
    std::ranges::sort(numbers);  // what lies side by side is sent as one run
    MEMPOOL_ASSIGN_OR_RETURN(const std::vector<BlockAddress> more, agent_.claim(kName, numbers));
    for (size_t i = 0; i < missing; ++i) number_of_[more[i].index()] = numbers[i];
    blocks.insert(blocks.end(), more.begin(), more.end());
    return {};
  }
  Status let_go(std::span<const BlockAddress> blocks) override {
    use(blocks);
    return agent_.unpin(blocks);
  }
  Result<std::byte*> piece(const BlockAddress& block, uint32_t layer, uint32_t part) override {
    return memory_.data() + layout_.piece_offset(number_of(block), layer, part);
  }
  Status end() override { return agent_.withdraw(kName, kEndTimeout); }

 private:
  static constexpr std::chrono::seconds kEndTimeout{10};
  inline static const std::string kName = "kv";

  uint32_t number_of(const BlockAddress& block) const { return number_of_.at(block.index()); }
  /// Have these be the most recently used ones, the first block of the prompt most of all: the
  /// index cannot keep what continues a block that is claimed anew.
  void use(std::span<const BlockAddress> blocks) {
    std::vector<bool> used(oldest_first_.size());
    for (const BlockAddress& block : blocks) used[number_of(block)] = true;
    std::erase_if(oldest_first_, [&](uint32_t number) { return used[number]; });
    for (size_t i = blocks.size(); i-- > 0;) oldest_first_.push_back(number_of(blocks[i]));
  }

  Agent& agent_;
  const HostMemory memory_;
  const BlockLayout layout_;
  std::vector<uint32_t> oldest_first_;                // all numbers, by their last use
  std::unordered_map<uint32_t, uint32_t> number_of_;  // by an address' index, which stays
};

}  // namespace

std::unique_ptr<KvMemory> pool_memory(Agent& agent) {
  return std::make_unique<PoolMemory>(agent);
}

Result<std::unique_ptr<KvMemory>> tensor_memory(Agent& agent, const ContentSpec& spec,
                                                const Placement& placement, uint32_t blocks) {
  MEMPOOL_ASSIGN_OR_RETURN(const BlockLayout layout, make_layout(spec, placement, blocks));
  MEMPOOL_ASSIGN_OR_RETURN(HostMemory memory,
                           HostMemory::create("tensors", layout.block_bytes * blocks));
  auto tensors = std::make_unique<TensorMemory>(agent, std::move(memory), layout, blocks);
  MEMPOOL_RETURN_IF_ERROR(tensors->adopt());
  return std::unique_ptr<KvMemory>(std::move(tensors));
}

}  // namespace mempool::demo
