// SPDX-License-Identifier: Apache-2.0
// Tests what the table of what is gone remembers, against a plain list, and the prints of prefixes.
#include "index/ghost_table.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <deque>
#include <set>
#include <utility>

#include "tests/index/index_fixture.h"

namespace mempool {
namespace {

TEST(PrefixPrint, depends_on_content_and_on_every_token_before) {
  const ContentId one = test_content("one").id;
  const Tokens tokens = {1, 1, 2, 2, 3};
  std::vector<PrefixPrint> prints;
  append_prefix_prints(one, tokens, kTokensPerBlock, prints);
  ASSERT_EQ(prints.size(), 2u);  // whole blocks only
  append_prefix_prints(one, Tokens{1, 1, 2, 3}, kTokensPerBlock, prints);
  append_prefix_prints(one, Tokens{1, 0, 2, 2}, kTokensPerBlock, prints);
  append_prefix_prints(test_content("other").id, tokens, kTokensPerBlock, prints);
  EXPECT_EQ(prints[2], prints[0]);
  prints.erase(prints.begin() + 2);
  EXPECT_EQ(std::set(prints.begin(), prints.end()).size(), prints.size());
}

RC_GTEST_PROP(GhostTable, remembers_what_was_added_last_as_a_plain_list_does,
              (const std::vector<uint8_t>& bytes)) {
  constexpr size_t kCapacity = 3;
  GhostTable table(kCapacity);
  std::deque<std::optional<PrefixPrint>> list;  // newest last; one taken leaves its place
  uint64_t word = 0;
  for (const uint8_t byte : bytes) {
    const PrefixPrint print = byte % 8;
    const auto at = std::ranges::find(list, std::optional(print));
    if (byte >= 192) {
      RC_ASSERT(table.take(print) == (at != list.end()));
      if (at != list.end()) *at = std::nullopt;
    } else {
      if (at != list.end()) *at = std::nullopt;
      list.push_back(print);
      if (list.size() > kCapacity) list.pop_front();
      table.add(print, ++word);
      RC_ASSERT(table.find(print) == word);
    }
    for (PrefixPrint each = 0; each < 8; ++each) {
      RC_ASSERT(table.find(each).has_value() == (std::ranges::count(list, each) == 1));
    }
  }
}

}  // namespace
}  // namespace mempool
