// SPDX-License-Identifier: Apache-2.0
// Owns the admission policies there are, and their names.
#include "index/admission_policy.h"

#include <fmt/format.h>

#include "core/check.h"

namespace mempool {
namespace {

/// Lets a block in when its tokens were offered before, in another block: what is asked for once
/// leaves with its caller. It remembers as many offers as the pool has blocks. An engine that
/// inserts a growing prompt again offers the same blocks, which is no second asking.
/// Thread: serialized, with the index.
class SecondHit final : public AdmissionPolicy {
 public:
  explicit SecondHit(uint32_t blocks) : seen_(blocks) {}

  bool admits(PrefixPrint print, const BlockAddress& offered) override {
    const uint64_t block = uint64_t{offered.place} << 32 | offered.generation;
    const std::optional<uint64_t> before = seen_.find(print);
    if (!before) seen_.add(print, block);
    return before && *before != block;
  }
  size_t memory_bytes() const override { return seen_.memory_bytes(); }

 private:
  GhostTable seen_;
};

}  // namespace

Result<std::unique_ptr<AdmissionPolicy>> make_admission_policy(std::string_view name,
                                                               uint32_t blocks) {
  MEMPOOL_CHECK(blocks > 0);
  if (name == "all") return std::unique_ptr<AdmissionPolicy>();
  if (name == "second_hit") {
    return std::unique_ptr<AdmissionPolicy>(std::make_unique<SecondHit>(blocks));
  }
  return invalid_argument(
      fmt::format("there is no admission policy \"{}\"; those there are: all, second_hit", name));
}

}  // namespace mempool
