# SPDX-License-Identifier: Apache-2.0
"""Tests engines in one process: what old bytes, full caches and full pools do to an answer."""
import time

import mempool
import numpy as np
import pytest

from reference_engine import engine as engine_module
from reference_engine import weights
from reference_engine.engine import Engine
from reference_engine.front import CACHING, SENDING
from reference_engine.instance import Setup, content_spec, start_agent
from reference_engine.llama import UNIT
from reference_engine.messages import (Failed, Finished, FirstToken, Policy, Request, Resume,
                                       Settled)
from reference_engine.proof import Said, empty_pages, generate

MODEL = weights.load("tiny")
SPEC = content_spec("tiny", MODEL.config)
PROMPT = tuple(np.random.default_rng(3).integers(MODEL.config.vocab_size, size=90).tolist())


class Driven:
    """An engine with its agent, and what it has told. Thread: confined."""

    def __init__(self, name: str, policy: Policy, blocks: int = 32):
        setup = Setup(name, policy, model="tiny", transport="tcp", blocks=blocks)
        self.agent = start_agent(setup, SPEC)
        self.told, self._watched = [], []
        self._end = time.monotonic() + 60  # which only a defect reaches
        self.engine = Engine(MODEL, self.agent, SPEC, policy, self.told.append,
                             lambda transfer, then: self._watched.append((transfer, then)))

    def turn(self) -> None:
        """Do what an instance's loop does once, without waiting."""
        assert time.monotonic() < self._end, self.told
        for watched in [one for one in self._watched if one[0].done()]:
            self._watched.remove(watched)
            watched[1]()
        self.engine.receive()
        self.engine.step()

    def of(self, kind: type) -> list:
        return [message for message in self.told if isinstance(message, kind)]


@pytest.fixture
def driven():
    """Start engines that end with the test."""
    started = []

    def start(*arguments, **fields):
        started.append(Driven(*arguments, **fields))
        return started[-1]

    yield start
    for one in started:
        one.agent.close()


def answer(one: Driven, request: Request) -> Said:
    """Have one engine answer a request."""
    one.told.clear()
    one.engine.submit(request)
    while not one.of(Settled):
        assert not one.of(Failed), one.told
        one.turn()
    first, rest = one.of(FirstToken)[0], one.of(Finished)[0]
    return Said((first.token, *rest.tokens), [first.logits, *rest.logits])


def alone(prompt, tokens) -> Said:
    return generate(MODEL, empty_pages(MODEL, 32), list(range(32)), prompt, tokens)


def test_what_a_block_held_before_changes_no_bit(driven):
    one = driven("one", Policy())
    np.asarray(one.agent.segment())[:] = np.nan
    assert alone(PROMPT, 12).same_logits(answer(one, Request(1, PROMPT, 12)).logits)


@pytest.mark.parametrize("policy", [Policy(), SENDING], ids=["transfer", "transfer_with_insert"])
def test_what_the_target_s_blocks_held_before_changes_no_bit(driven, policy):
    prefill, decode = driven("prefill", policy), driven("decode", Policy())
    prefill.agent.add_peer("decode", decode.agent.listen)
    for one in (prefill, decode):
        np.asarray(one.agent.segment())[:] = np.nan
    request = Request(7, PROMPT, 12, target="decode")
    prefill.engine.submit(request)
    while not decode.of(Finished):
        for one in (prefill, decode):
            assert not one.of(Failed), one.told
            one.turn()
        if prefill.of(FirstToken) and not decode.told:
            first = prefill.of(FirstToken)[0]
            decode.engine.resume(Resume(request, len(PROMPT), (first.token,)))
            decode.told.append("resumed")
    logits = [first.logits, *decode.of(Finished)[0].logits]
    assert alone(PROMPT, 12).same_logits(logits)


@pytest.mark.parametrize("length", [2 * UNIT - 1, 2 * UNIT, 2 * UNIT + 1])
def test_a_prompt_that_is_cached_as_a_whole_is_answered_as_before(driven, length):
    one, prompt = driven("one", CACHING), PROMPT[:length]
    first = answer(one, Request(1, prompt, 3))
    again = answer(one, Request(2, prompt, 3))
    assert one.of(FirstToken)[0].matched == (length - 1) // UNIT * UNIT
    assert first.same_logits(again.logits) and first.same_logits(alone(prompt, 3).logits)


def test_sequences_in_one_batch_are_answered_as_alone(driven):
    one = driven("one", Policy())
    prompts = {number: PROMPT[number:60 + 7 * number] for number in range(1, 5)}
    for number, prompt in prompts.items():
        one.engine.submit(Request(number, prompt, 6))
    while len(one.of(Settled)) < len(prompts):
        one.turn()
    logits = {first.number: [first.logits] for first in one.of(FirstToken)}
    for rest in one.of(Finished):
        logits[rest.number] += rest.logits
    assert all(alone(prompt, 6).same_logits(logits[number]) for number, prompt in prompts.items())


def test_a_request_that_no_pool_gives_room_for_fails_and_says_so(driven, monkeypatch):
    monkeypatch.setattr(engine_module, "WAIT_MOST_S", 0.0)
    one = driven("one", Policy(), blocks=8)
    held = one.agent.alloc(6)
    one.engine.submit(Request(1, PROMPT, 3))
    one.turn()
    assert [failed.number for failed in one.of(Failed)] == [1]
    assert "RESOURCE_EXHAUSTED" in one.of(Failed)[0].error
    one.agent.unpin(held)
    assert alone(PROMPT, 3).same_logits(answer(one, Request(2, PROMPT, 3)).logits)


def test_a_target_that_nobody_knows_fails_the_request_alone(driven):
    one = driven("one", SENDING)
    one.engine.submit(Request(1, PROMPT, 3, target="nobody"))
    one.turn()
    assert "nobody" in one.of(Failed)[0].error
    assert one.agent.status()["pool"]["blocks"]["free"] == 32
    with pytest.raises(mempool.DeadlineExceeded):
        one.agent.receive(0)
