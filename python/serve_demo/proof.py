# SPDX-License-Identifier: Apache-2.0
"""Owns the proof: what a run without cache or transfer says, and wrong KV that must be noticed.

KV is compared in this order: the sums of its blocks, then logits bit by bit, then the text. Greedy
text alone proves little: it stays the same over many a wrong float.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mempool
import numpy as np

from reference_engine.conversations import Conversation
from reference_engine.engine import CHUNK
from reference_engine.llama import UNIT, Array, Llama, Unit


@dataclass(frozen=True)
class Said:
    """An answer, and the logits that each of its tokens was chosen by."""

    tokens: tuple[int, ...]
    logits: list[np.ndarray]

    def same_logits(self, logits: list[np.ndarray]) -> bool:
        """Compare bit by bit."""
        return len(logits) == len(self.logits) and all(
            mine.tobytes() == other.tobytes() for mine, other in zip(self.logits, logits))


def empty_pages(model: Llama, count: int) -> Array:
    """Give pages of plain memory, zero."""
    config = model.config
    return model.array(np.zeros((count, config.num_hidden_layers, 2, UNIT,
                                 config.num_key_value_heads, config.head_dim), np.float32))


def generate(model: Llama, pages: Array, rows: list[int], prompt: tuple[int, ...], answer: int,
             computed: int = 0) -> Said:
    """Answer a prompt whose first `computed` tokens have their KV in the pages `rows` already."""
    for page in rows[computed // UNIT:]:
        pages[page] = 0  # what lies beyond the tokens must be finite
    tokens, logits = list(prompt), []
    while len(logits) < answer:
        units, end = [], min(len(tokens), computed + CHUNK)
        while computed < end:
            first, computed = computed, min(computed // UNIT * UNIT + UNIT, end)
            units.append(Unit(tokens[first:computed], first, rows[:first // UNIT + 1],
                              wants_logits=computed == len(tokens)))
        row = model.forward(units, pages)[-1]
        if row is not None:
            logits.append(row)
            tokens.append(int(np.argmax(row)))
    return Said(tuple(tokens[len(prompt):]), logits)


def converse_alone(model: Llama, conversation: Conversation) -> Iterator[Said]:
    """Play a conversation, each turn in memory of its own with nothing cached."""
    answers: list[tuple[int, ...]] = []
    for answer in conversation.answers:
        prompt = conversation.prompt(answers)
        rows = list(range(-(-(len(prompt) + answer) // UNIT)))
        said = generate(model, empty_pages(model, len(rows)), rows, prompt, answer)
        answers.append(said.tokens)
        yield said


# ---- negative controls ----
def swap_blocks(pages: Array, rows: list[int]) -> None:
    """Exchange the KV of two blocks."""
    copy = pages[rows[1]] * 1
    pages[rows[1]] = pages[rows[2]]
    pages[rows[2]] = copy


def flip_float(pages: Array, rows: list[int]) -> None:
    """Negate one float of a key."""
    pages[rows[2], 1, 0, 3, 0, 5] *= -1


WRONG_KV = {"swapped_block": swap_blocks, "flipped_float": flip_float, "stale_block": None}


class Control:
    """A pool with one cached turn, in which something is made wrong. Thread: confined."""

    def __init__(self, model: Llama, agent: mempool.Agent, spec: mempool.ContentSpec,
                 conversation: Conversation, other: Conversation):
        self._model, self._agent, self._content = model, agent, agent.content(spec)
        self._pages = model.array(np.asarray(agent.segment()))
        self._conversation, self._other = conversation, other
        self._alone = list(converse_alone(model, conversation))

    def caught_by(self, make_wrong: Callable[[Array, list[int]], None] | None) -> dict[str, bool]:
        """Tell which comparisons notice it; None leaves an address that is stale."""
        prompt = self._conversation.prompt([])
        cached, reused = self._publish(prompt), mempool.Blocks()
        rows = list(cached.indices)
        if make_wrong is None:
            reused = self._make_stale(prompt, cached)
        else:
            make_wrong(self._pages, rows)
        sums = any([self._is_refused(block) for block in cached])
        first, second = self._alone[:2]
        turn, answer = self._conversation.prompt([first.tokens]), len(second.tokens)
        fresh = self._agent.alloc(-(-(len(turn) + answer) // UNIT) - len(rows))
        said = generate(self._model, self._pages, rows + list(fresh.indices), turn, answer,
                        len(rows) * UNIT)
        self._agent.unpin(fresh + reused)
        self._agent.erase(self._content, prompt[:UNIT])
        return {"block_checksums": sums,
                "logits": not second.same_logits(said.logits),
                "text": said.tokens != second.tokens}

    def _publish(self, prompt: tuple[int, ...]) -> mempool.Blocks:
        """Prefill a prompt and publish it; gives its whole blocks, which nobody pins."""
        blocks = self._agent.alloc(-(-len(prompt) // UNIT))
        generate(self._model, self._pages, list(blocks.indices), prompt, 1)
        whole = blocks[:len(prompt) // UNIT]
        self._agent.insert(self._content, prompt[:len(whole) * UNIT], whole)
        self._agent.unpin(blocks)
        return whole

    def _make_stale(self, prompt: tuple[int, ...], cached: mempool.Blocks) -> mempool.Blocks:
        """Free the last cached block and fill it for another prompt; gives it, pinned for that."""
        self._agent.erase(self._content, prompt[:len(cached) * UNIT])
        taken = self._agent.alloc(self._agent.status()["pool"]["blocks"]["free"])
        rows = list(taken.indices)
        at = rows.index(cached[-1].index)
        before = [row for row in rows if row != rows[at]][:len(cached) - 1]
        other = self._other.prompt([])[:len(cached) * UNIT]
        generate(self._model, self._pages, [*before, rows[at]], other, 1)
        self._agent.unpin(taken[:at] + taken[at + 1:])
        return taken[at:at + 1]

    def _is_refused(self, block: mempool.BlockAddress) -> bool:
        try:
            return not self._agent.read(block)
        except (mempool.Corruption, mempool.Stale):
            return True
