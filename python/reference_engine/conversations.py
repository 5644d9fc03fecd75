# SPDX-License-Identifier: Apache-2.0
"""Owns what is asked: conversations of several turns, some of which begin with the same words."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Conversation:
    """What a user says, turn by turn. Each prompt is all that was said before, and his turn."""

    number: int
    system: tuple[int, ...]  # shared with other conversations
    turns: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]  # tokens of the answer to each turn

    @property
    def tokens(self) -> int:
        """Tokens of all of it."""
        return len(self.system) + sum(map(len, self.turns)) + sum(self.answers)

    def prompt(self, answers: list[tuple[int, ...]]) -> tuple[int, ...]:
        """Give the prompt of the turn that follows these answers."""
        said = list(self.system)
        for turn, answer in zip(self.turns, answers):
            said += turn + answer
        return (*said, *self.turns[len(answers)])


def draw(seed: int, count: int, turns: int, vocabulary: int) -> list[Conversation]:
    """Draw conversations of two system prompts, 160 and 100 tokens, from a seed."""
    draws = np.random.default_rng(seed)

    def words(least: int, most: int) -> tuple[int, ...]:
        length = draws.integers(least, most, endpoint=True)
        return tuple(draws.integers(vocabulary, size=length).tolist())

    systems = [words(160, 160), words(100, 100)]
    return [Conversation(number, systems[number % len(systems)],
                         tuple(words(12, 60) for _ in range(turns)),
                         tuple(draws.integers(8, 24, size=turns, endpoint=True).tolist()))
            for number in range(count)]
