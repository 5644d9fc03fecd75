// SPDX-License-Identifier: Apache-2.0
// Owns the drawing of conversations from one seed.
#include "examples/demo/conversations.h"

#include "core/random.h"

namespace mempool::demo {
namespace {

using Lengths = ConversationOptions::Lengths;

constexpr uint32_t kVocabulary = 32000;

struct Conversation {
  std::vector<TokenId> said;
  uint64_t turns_left = 0;
};

uint64_t draw(Random& random, const Lengths& lengths) {
  return lengths.least + random.below(uint64_t{lengths.most} - lengths.least + 1);
}

void say(Random& random, const Lengths& lengths, std::vector<TokenId>& said) {
  for (uint64_t left = draw(random, lengths); left > 0; --left) {
    said.push_back(static_cast<TokenId>(random.below(kVocabulary)));
  }
}

}  // namespace

std::vector<std::vector<TokenId>> draw_conversations(const ConversationOptions& options) {
  Random random(options.seed);
  std::vector<std::vector<TokenId>> system_prompts(options.system_prompts);
  for (std::vector<TokenId>& prompt : system_prompts) say(random, options.system_tokens, prompt);

  std::vector<Conversation> open(options.open);
  std::vector<std::vector<TokenId>> prompts;
  prompts.reserve(options.requests);
  while (prompts.size() < options.requests) {
    Conversation& turn = open[random.below(open.size())];
    if (turn.turns_left == 0) {
      turn.said = system_prompts[random.below(system_prompts.size())];
      turn.turns_left = draw(random, options.turns);
    }
    say(random, options.user_tokens, turn.said);
    prompts.push_back(turn.said);
    say(random, options.answer_tokens, turn.said);
    --turn.turns_left;
  }
  return prompts;
}

}  // namespace mempool::demo
