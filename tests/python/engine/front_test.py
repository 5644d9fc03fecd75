# SPDX-License-Identifier: Apache-2.0
"""Tests two instances in every setting: equal logits, what is found and moved, cancels, deaths."""
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
from serve_demo import proof
from two_instances import (VOCABULARY, conversations, setups, unsettled_blocks,
                           wait_until_settled)

from reference_engine import weights
from reference_engine.front import CACHING, SETTINGS, Front, Setting
from reference_engine.llama import UNIT
from reference_engine.messages import AskStatus, Failed

LONG = tuple(token % VOCABULARY for token in range(1900))
NOTHING_CACHED = [SETTINGS[0], SETTINGS[2]]


@pytest.fixture(scope="module")
def model():
    return weights.load("small")


@pytest.fixture(scope="module")
def alone(model):
    return {(conversation.number, turn): said for conversation in conversations()
            for turn, said in enumerate(proof.converse_alone(model, conversation))}


def play(setting, transport="shm"):
    """Play the conversations one after the other, so that what is found is always the same."""
    with Front(setting, setups(transport)) as front:
        outcomes = front.converse(conversations(), 1, lambda outcome: None)
        statuses = wait_until_settled(front)
    return outcomes, statuses


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_logits_are_bit_for_bit_those_without_cache_or_transfer(setting, alone):
    outcomes, statuses = play(setting)
    assert not [outcome.error for outcome in outcomes.values() if outcome.error]
    assert all(alone[key].same_logits(outcomes[key].logits) for key in alone)
    if setting in NOTHING_CACHED:
        assert all(status["pool"]["blocks"].get("published", 0) == 0 for status in statuses)


def test_a_stage_finds_more_or_moves_less_than_the_one_before():
    found, moved = {}, {}
    for setting in SETTINGS[2:]:
        outcomes, _ = play(setting)
        found[setting.stage] = sum(outcome.matched for outcome in outcomes.values())
        moved[setting.stage] = sum(outcome.bytes_moved for outcome in outcomes.values())
    assert found["PD-Basic"] == 0
    assert found["PD-Caching-1"] == found["PD-Caching-2"] < found["PD-Caching-3"]
    assert moved["PD-Basic"] == moved["PD-Caching-1"] > moved["PD-Caching-2"]


def blocks_known(outcome):
    """Whole blocks that are there after a turn. The last token of an answer has no KV."""
    return (len(outcome.request.prompt) + outcome.request.answer - 1) // UNIT


@pytest.mark.parametrize("setting", [SETTINGS[1], SETTINGS[5]], ids=str)
def test_the_second_turn_finds_all_of_the_first_one_but_a_partial_block(setting):
    outcomes, _ = play(setting)
    for conversation in conversations():
        first, second = (outcomes[conversation.number, turn] for turn in (0, 1))
        assert blocks_known(first) > len(first.request.prompt) // UNIT
        assert second.matched == blocks_known(first) * UNIT


def test_the_second_turn_is_sent_without_what_decode_kept_of_the_first_one():
    outcomes, statuses = play(SETTINGS[4])
    for conversation in conversations():
        first, second = (outcomes[conversation.number, turn] for turn in (0, 1))
        sent = -(-len(second.request.prompt) // UNIT) - blocks_known(first)
        assert second.bytes_moved == sent * statuses[0]["pool"]["block_bytes"]


def test_a_prompt_split_over_two_instances_is_found_on_both(alone):
    conversation = conversations()[0]
    prompt = conversation.prompt([])
    with Front(Setting("split", None, CACHING, CACHING), setups()) as front:
        front.settle(front.prefill_split(prompt, len(prompt) // 2 // UNIT * UNIT))
        held = [status["pool"]["blocks"]["published"] for status in wait_until_settled(front)]
        later = conversation.prompt([alone[conversation.number, 0].tokens])
        outcome = front.submit(later, conversation.answers[1], gather_from="second")
        front.settle(outcome)
        wait_until_settled(front)
    assert min(held) > 0 and sum(held) == len(prompt) // UNIT
    assert outcome.error == ""
    assert outcome.matched == len(prompt) // UNIT * UNIT
    assert alone[conversation.number, 1].same_logits(outcome.logits)


def test_second_halves_after_different_first_halves_are_told_apart(model):
    first, other, second = LONG[:64], (LONG[0], *LONG[301:364]), LONG[400:464]
    with Front(Setting("split", None, CACHING, CACHING), setups()) as front:
        for half in (first, other):
            front.settle(front.prefill_split(half + second, len(half)))
        for half in (first, other):
            prompt = half + second + LONG[:9]
            outcome = front.submit(prompt, 4, gather_from="second")
            front.settle(outcome)
            assert outcome.matched == len(half + second)
            alone = proof.generate(model, proof.empty_pages(model, 9), list(range(9)), prompt, 4)
            assert alone.same_logits(outcome.logits)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_cancel_amid_prefill_gives_all_blocks_back(setting):
    with Front(setting, setups()) as front:
        outcome = front.submit(LONG, 8)
        front.cancel(outcome)  # read after the first of thirty steps
        front.settle(outcome)
        statuses = wait_until_settled(front)
        assert outcome.cancelled and not outcome.tokens
        assert all(status["pool"]["blocks"]["free"] == status["pool"]["total"]
                   for status in statuses)
        served = front.submit(LONG[:40], 2)
        front.settle(served)
        assert len(served.tokens) == 2


@pytest.mark.parametrize("setting", NOTHING_CACHED, ids=str)
def test_a_cancel_after_the_first_token_gives_all_blocks_back(setting):
    with Front(setting, setups()) as front:
        outcome = front.submit(LONG[:40], 600)
        while not outcome.tokens:
            front.hear()
        front.cancel(outcome)
        front.settle(outcome)
        statuses = wait_until_settled(front)
        assert outcome.cancelled and len(outcome.tokens) == 1
        assert all(status["pool"]["blocks"]["free"] == status["pool"]["total"]
                   for status in statuses)


@pytest.mark.parametrize("prompt, words", [
    (LONG * 2, "3800 tokens and an answer of 8 are 3808, of at most 2048; shorten the prompt"),
    ((3, 512), "token 512 at position 1 is not in the vocabulary; give 0 to 511"),
    ((3, 4, -1), "token -1 at position 2"),
    ((), "no tokens"),
])
def test_a_request_that_cannot_be_served_says_why_and_the_next_one_is(prompt, words):
    with Front(SETTINGS[-1], setups()) as front:
        refused, served = front.submit(prompt, 8), front.submit(LONG[:30], 2)
        front.settle(refused, served)
        assert words in refused.error
        assert served.error == "" and len(served.tokens) == 2
        wait_until_settled(front)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_more_requests_than_the_pools_hold_wait_for_each_other(setting):
    with Front(setting, setups(blocks=24)) as front:  # three prompts, but no answer with them
        outcomes = [front.submit(LONG[i:125 + i], 40) for i in range(6)]
        front.settle(*outcomes)
        assert not [outcome.error for outcome in outcomes if outcome.error]
        assert all(len(outcome.tokens) == 40 for outcome in outcomes)
        wait_until_settled(front)


def test_a_request_that_waits_for_room_can_be_cancelled_and_others_go_on():
    with Front(SETTINGS[4], setups(blocks=40)) as front:
        outcomes = [front.submit(LONG[i:300 + i], 20) for i in range(3)]
        front.cancel(outcomes[1])  # for which there is no room beside the first
        front.settle(*outcomes)
        assert [outcome.cancelled for outcome in outcomes] == [False, True, False]
        assert [len(outcome.tokens) for outcome in outcomes] == [20, 0, 20]
        wait_until_settled(front)


def test_a_prompt_whose_answer_is_empty_is_settled_by_both():
    with Front(SETTINGS[4], setups()) as front:
        outcome = front.submit(LONG[:100], 0)
        front.settle(outcome)
        assert outcome.error == "" and not outcome.tokens
        wait_until_settled(front)


def test_cancels_while_kv_is_being_handed_over_leave_nothing_behind():
    with Front(SETTINGS[4], setups()) as front:
        for i in range(12):
            busy, outcome = front.submit(LONG[i:50 + i], 30), front.submit(LONG[i:240 + i], 8)
            while not outcome.tokens:
                front.hear()
            front.cancel(outcome)  # the commit is on its way
            front.settle(outcome, busy)
        wait_until_settled(front)


def test_an_instance_that_cannot_start_is_named_with_its_reason_and_both_are_ended():
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="prefill: .*nosuch") as failed:
        Front(SETTINGS[2], [replace(setup, transport=transport) for setup, transport
                            in zip(setups(), ("nosuch", "shm"))])
    assert failed and set(multiprocessing.active_children()) <= before


def hear(pipe, kind):
    """Read what an instance says until it says something of a kind."""
    while not isinstance(message := pipe.recv(), kind):
        continue
    return message


@pytest.mark.parametrize("setting", [SETTINGS[2], SETTINGS[4]], ids=str)
def test_a_prefill_whose_decode_dies_fails_and_keeps_no_block(setting):
    with Front(setting, setups()) as front:
        front.settle(front.submit(LONG[:40], 2))
        prefill = front._pipes[0]
        front.submit(LONG, 8)
        prefill.send(AskStatus())  # read after the first of thirty steps: the transfer is on
        assert unsettled_blocks(hear(prefill, dict))
        os.kill(front.processes[1].pid, signal.SIGKILL)
        hear(prefill, Failed)
        prefill.send(AskStatus())
        assert not unsettled_blocks(hear(prefill, dict))
        with pytest.raises(RuntimeError, match="decode: the instance has gone"):
            front.hear()
