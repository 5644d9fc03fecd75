# SPDX-License-Identifier: Apache-2.0
"""Tests engines in one process: what old bytes, full caches and full pools do to an answer."""
import select
import time

import mempool
import numpy as np
import pytest
from serve_demo.proof import Said, empty_pages, generate
from two_instances import unsettled_blocks

from reference_engine import engine as engine_module
from reference_engine import weights
from reference_engine.engine import Engine
from reference_engine.front import CACHING, SENDING
from reference_engine.instance import Setup, content_spec, start_agent
from reference_engine.llama import UNIT, Llama, LlamaConfig
from reference_engine.messages import (Cancelled, Failed, Finished, FirstToken, Policy, Request,
                                       Resume, Settled)

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


def turn_until(ones, holds):
    """Do turns of these engines until something holds."""
    while not holds():
        for one in ones:
            one.turn()


@pytest.fixture
def two(driven):
    """Start a prefill and a decode engine of a policy, which know each other."""
    def start(policy, target=Policy()):
        ones = driven("prefill", policy), driven("decode", target)
        for one, other in (ones, ones[::-1]):
            one.agent.add_peer(other.agent.name, other.agent.listen)
        return ones

    return start


def wait_until_settled(*ones):
    turn_until(ones, lambda: not any(unsettled_blocks(one.agent.status()) for one in ones))


@pytest.mark.parametrize("resumed", [True, False])
def test_a_cancel_whose_kv_comes_all_the_same_leaves_nothing_behind(two, resumed):
    prefill, decode = two(SENDING)
    request = Request(7, PROMPT, 12, target="decode")
    if resumed:
        decode.engine.resume(Resume(request, len(PROMPT), (1,)))
        decode.engine.cancel(7)
        assert decode.told == [Cancelled(7)]
    prefill.engine.submit(request)
    turn_until([prefill], lambda: prefill.of(Settled))
    assert select.select([decode.agent.arrival_descriptor()], [], [], 30)[0]
    decode.engine.receive()
    if not resumed:
        decode.engine.cancel(7)
    wait_until_settled(prefill, decode)


@pytest.mark.parametrize("length", [60, 90])  # refused when it is computed, or amid that
@pytest.mark.parametrize("policy", [Policy(), SENDING], ids=["transfer", "transfer_with_insert"])
def test_a_full_target_is_waited_for(two, policy, length):
    prefill, decode = two(policy)
    held = decode.agent.alloc(30)
    request = Request(7, PROMPT[:length], 12, target="decode")
    prefill.engine.submit(request)
    sequence = prefill.engine._sequences[7]
    turn_until([prefill], lambda: sequence.refused_at)
    decode.agent.unpin(held)
    turn_until([prefill], lambda: prefill.of(Settled) or prefill.of(Failed))
    assert not prefill.of(Failed) and len(prefill.of(FirstToken)) == 1
    first = prefill.of(FirstToken)[0]
    decode.engine.resume(Resume(request, length, (first.token,)))
    turn_until([decode], lambda: decode.of(Settled))
    logits = [first.logits, *decode.of(Finished)[0].logits]
    assert alone(PROMPT[:length], 12).same_logits(logits)
    wait_until_settled(prefill, decode)


def test_a_cancel_after_a_full_target_has_refused_is_a_cancel(two):
    prefill, decode = two(SENDING)
    held = decode.agent.alloc(30)
    prefill.engine.submit(Request(7, PROMPT, 12, target="decode"))
    prefill.engine.step()
    with pytest.raises(mempool.ResourceExhausted):
        prefill._watched[0][0].wait(30)
    prefill.engine.cancel(7)
    turn_until([prefill], lambda: prefill.of(Cancelled))
    assert not prefill.of(Failed) and prefill.engine.patience_s is None
    decode.agent.unpin(held)
    wait_until_settled(prefill, decode)


def test_places_at_a_target_are_kept_from_try_to_try_and_given_back(two, monkeypatch):
    prefill, decode = two(Policy())
    full = mempool.ResourceExhausted(mempool.StatusCode.RESOURCE_EXHAUSTED, "a full queue", 1)
    tries = []

    def refuse(*arguments, **options):
        tries.append(arguments)
        raise full

    class Refusing:
        """A pool whose transfers find the queue full. Thread: confined."""

        transfer = staticmethod(refuse)

        def __getattr__(self, name):
            return getattr(prefill.agent, name)

    monkeypatch.setattr(prefill.engine, "pool", Refusing())
    prefill.engine.submit(Request(7, PROMPT, 12, target="decode"))
    turn_until([prefill], lambda: len(tries) == 3)
    assert all(places == tries[0][2] for _, _, places in tries)
    assert sum(unsettled_blocks(decode.agent.status()).values()) > 0
    prefill.engine.cancel(7)
    assert prefill.told == [Cancelled(7)]
    wait_until_settled(prefill, decode)


def test_a_gather_that_is_cancelled_when_it_has_ended_leaves_no_pin(two):
    one, other = two(CACHING, CACHING)
    answer(other, Request(1, PROMPT, 3))
    one.engine.submit(Request(2, PROMPT, 3, gather_from="decode"))
    one.engine.step()
    one._watched[0][0].wait(30)
    one.engine.cancel(2)
    turn_until([one], lambda: one.of(Cancelled))
    wait_until_settled(one)


@pytest.mark.parametrize("peer", ["decode", "dead", "nobody"])
def test_what_a_gather_does_not_bring_is_computed_and_found_again(two, peer):
    one, _ = two(CACHING, CACHING)
    one.agent.add_peer("dead", "127.0.0.1:1")
    answer(one, Request(0, PROMPT[:2 * UNIT], 1))
    first = answer(one, Request(1, PROMPT, 3, gather_from=peer))
    again = answer(one, Request(2, PROMPT, 3))
    assert one.of(FirstToken)[0].matched == len(PROMPT) // UNIT * UNIT
    whole = answer(one, Request(3, PROMPT, 3, gather_from=peer))  # less than a block is missing
    for said in (first, again, whole):
        assert alone(PROMPT, 3).same_logits(said.logits)


@pytest.mark.parametrize("request_, words", [
    (Request(1, PROMPT, -5), "an answer of -5 tokens"),
    (Request(1, PROMPT, 5, gather_from="other"), "nothing is gathered from other"),
])
def test_a_request_that_makes_no_sense_is_refused(driven, request_, words):
    one = driven("one", Policy())
    one.engine.submit(request_)
    assert words in one.of(Failed)[0].error and one.engine.patience_s is None


def test_a_prompt_without_an_answer_is_handed_over_and_settled(two):
    prefill, decode = two(SENDING)
    request = Request(7, PROMPT, 0, target="decode")
    decode.engine.resume(Resume(request, len(PROMPT)))
    prefill.engine.submit(request)
    turn_until([prefill, decode], lambda: decode.of(Settled) and prefill.of(Settled))
    wait_until_settled(prefill, decode)


@pytest.mark.parametrize("fields, words", [
    ({"segment_blocks": [16], "placement": mempool.Placement(order=mempool.TokenOrder.HEAD_TOKEN)},
     "order"),
    ({"segment_blocks": [4, 12]}, "segments"),
])
def test_a_pool_of_another_shape_is_refused(fields, words):
    config = LlamaConfig(97, 64, 96, 2, 16, 16, 4)  # as many heads as a block has tokens
    model, spec = Llama(config, weights.random_weights(config)), content_spec("tiny", config)
    with mempool.Agent.start(name="other", content=spec, transports=["tcp"], **fields) as pool:
        with pytest.raises(mempool.InvalidArgument, match=words):
            Engine(model, pool, spec, Policy(), print, print)
