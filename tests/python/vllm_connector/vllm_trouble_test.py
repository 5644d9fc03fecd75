# SPDX-License-Identifier: Apache-2.0
"""Runs MempoolConnector under the real vLLM where something goes wrong: resets amid requests, busy
targets, wrong words, ranks that do not end together."""
import logging
import threading
from functools import partial
from types import SimpleNamespace

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; `scripts/test.sh --vllm` installs it")

from vllm_connector_test import TO_DECODE, make_prompt, pool_is_idle, spoil  # noqa: E402
from vllm_instance import Instance  # noqa: E402

from mempool.vllm_settings import agent_options  # noqa: E402
from mempool.vllm_storing import Storing  # noqa: E402

ON_ITS_WAY = {"do_remote_prefill": True}


@pytest.fixture
def instance(tmp_path):
    return partial(Instance, tmp_path)


def test_kv_that_began_before_a_reset_is_not_stored_after_it(instance):
    prompt = make_prompt(30, 64)
    with instance("one") as engine:
        engine.add("running", prompt, most=20)
        for _ in range(3):
            engine.step()
        engine.scheduler.reset_prefix_cache(reset_connector=True)
        engine.complete("running")
        engine.forget_own_cache()
        engine.serve("after", prompt)
        assert engine.scheduled["after"] == 64


def test_a_request_preempted_before_a_reset_is_stored_after_it(instance):
    prompt = make_prompt(30, 64)
    with instance("one") as engine:
        engine.add("running", prompt, most=20)
        engine.step()
        assert engine.scheduler.reset_prefix_cache(reset_running_requests=True,
                                                   reset_connector=True)
        engine.complete("running")
        engine.forget_own_cache()
        engine.serve("after", prompt)
        assert engine.scheduled["after"] == 16


@pytest.mark.parametrize("target", [5, ["decode"], "\ud800"])
def test_a_target_that_is_no_name_costs_no_later_request_its_store(instance, target):
    with instance("one") as engine:
        engine.serve("bad", make_prompt(1, 64),
                     params={"do_remote_decode": True, "mempool_target": target})
        engine.serve("good", make_prompt(2, 64))
        engine.settle()
        assert pool_is_idle(engine)
        assert engine.agent.status()["index"]["blocks"] == 8


def test_a_store_that_fails_in_no_known_way_ends_and_others_go_on(instance, monkeypatch):
    store = Storing._send
    with instance("one") as engine:
        monkeypatch.setattr(Storing, "_send", lambda self, one: 1 // 0)
        engine.serve("bad", make_prompt(1, 64), params=TO_DECODE)
        engine.settle()
        monkeypatch.setattr(Storing, "_send", store)
        engine.serve("good", make_prompt(2, 64), params=TO_DECODE)
        engine.settle()
        assert pool_is_idle(engine)


def test_a_preempted_decode_request_does_not_wait_anew(instance):
    """The wait outlasts the limit of complete(), so one that waited would not end."""
    with instance("decode", blocks=12, wait=3600.0) as decode:
        for at in range(4):
            decode.serve(f"w{at}", make_prompt(20 + at, 40))
        decode.forget_own_cache()
        requests = [decode.add(f"r{at}", make_prompt(20 + at, 40), most=40, params=ON_ITS_WAY)
                    for at in range(4)]
        decode.complete(*(f"r{at}" for at in range(4)))
        assert sum(request.num_preemptions for request in requests) > 0


def test_a_first_block_that_fails_is_computed_without_a_wait(instance):
    prompt = make_prompt(15, 100)
    with instance("one", agent={"verify": "always"}, wait=3600.0) as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        spoil(engine, prompt, 0)
        engine.serve("second", prompt, params=ON_ITS_WAY)
        assert engine.scheduled["second"] == 100


def test_a_busy_target_is_asked_again(instance, caplog):
    count = 100
    with instance("decode", role="kv_consumer", blocks=512, pool_blocks=512,
                  agent={"max_inbound": 4}) as decode:
        with instance("prefill", role="kv_producer", blocks=512, pool_blocks=512,
                      agent={"peers": {"decode": decode.agent.listen}}) as prefill:
            with caplog.at_level(logging.WARNING, "mempool.vllm"):
                for at in range(count):
                    prefill.add(f"r{at}", make_prompt(at, 40), params=TO_DECODE)
                prefill.complete(*(f"r{at}" for at in range(count)))
                prefill.settle()
            assert not [one for one in caplog.messages if "did not reach" in one]
            assert decode.agent.status()["index"]["blocks"] == 2 * count
            assert pool_is_idle(prefill)


def test_a_prompt_computed_as_other_content_is_not_waited_for(instance):
    prompt = make_prompt(3, 64)
    with instance("decode", wait=3600.0) as decode:
        with instance("prefill", agent={"peers": {"decode": decode.agent.listen}}) as prefill:
            prefill.scheduler.reset_prefix_cache(reset_connector=True)
            prefill.serve("request", prompt, params=TO_DECODE)
            decode.serve("request", prompt, params=prefill.told["request"])
            assert decode.scheduled["request"] == 64
            prefill.settle()


def test_instances_reset_as_often_share_nothing(instance):
    """Each may have been reset to other weights."""
    with instance("one") as one, instance("two") as two:
        for engine in (one, two):
            engine.scheduler.reset_prefix_cache(reset_connector=True)
        request = one.add("probe", make_prompt(1, 40))
        assert (one.connector.scheduler.content_of(request)
                != two.connector.scheduler.content_of(request))


def test_looks_for_what_has_not_arrived_take_turns(instance, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("mempool.vllm_scheduler.time.monotonic", lambda: now[0])
    with instance("decode", blocks=512, wait=10.0) as decode:
        side = decode.connector.scheduler
        requests = [decode.add(f"r{at}", make_prompt(at, 100), params=ON_ITS_WAY)
                    for at in range(8)]
        looked = []
        content_of = side.content_of
        monkeypatch.setattr(side, "content_of",
                            lambda one: looked.append(one.request_id) or content_of(one))
        assert [side.find(one, 0) for one in requests] == [(None, False)] * 8
        assert len(looked) == 8
        assert [side.find(one, 0) for one in requests] == [(None, False)] * 8
        assert len(looked) == 8  # no time has passed
        now[0] += 1.0
        assert [side.find(one, 0) for one in requests] == [(None, False)] * 8
        assert len(looked) == 16
        now[0] += 10.0
        assert [side.find(one, 0) for one in requests] == [(0, False)] * 8


def hold_stores(engine: Instance, monkeypatch):
    """Keep the storing thread from its work; gives what lets it go."""
    gate = threading.Event()
    storing = engine.connector.scheduler._storing
    take = storing._claims.take
    monkeypatch.setattr(storing._claims, "take", lambda places: gate.wait(60) and take(places))
    return gate.set


def test_nobody_is_preempted_while_a_store_is_about_to_free_blocks(instance, monkeypatch):
    with instance("one", blocks=10) as engine:
        go_on = hold_stores(engine, monkeypatch)
        engine.add("runs", make_prompt(1, 62), most=60)
        engine.serve("ends", make_prompt(2, 60))  # its 4 blocks stay with the storing thread
        for _ in range(40):
            engine.step()
        assert engine.scheduler.requests["runs"].num_preemptions == 0
        go_on()
        engine.complete("runs")
        engine.settle()
        assert pool_is_idle(engine)


def test_blocks_of_a_pool_that_has_grown_are_loaded_from_where_they_lie(instance):
    with instance("one", pool_blocks=8, agent={"verify": "always"}) as engine:
        engine.serve("warm", make_prompt(1, 100))
        engine.settle()
        engine.agent.grow(8)
        for at in (2, 3):
            engine.serve(f"r{at}", make_prompt(at, 100))
        engine.forget_own_cache()
        for at in (2, 3):  # each step compares the bytes
            engine.serve(f"again{at}", make_prompt(at, 100))
            assert engine.scheduled[f"again{at}"] == 4


@pytest.mark.parametrize(("words", "settings"), [
    ("no setting", {"waits": 3}), ("give seconds", {"wait": "soon"}),
    ("max_blocks is 70", {"agent": {"max_blocks": 70}}), ("give an object", {"agent": "a.toml"}),
])
def test_settings_that_cannot_work_are_refused_at_start(tmp_path, words, settings):
    config = SimpleNamespace(
        kv_transfer_config=SimpleNamespace(kv_connector_extra_config=settings, engine_id="e"),
        parallel_config=SimpleNamespace(data_parallel_size=1))
    with pytest.raises(ValueError, match=words):
        agent_options(config, SimpleNamespace(blocks=64), "socket")


def test_ranks_end_a_load_in_different_steps_and_fail_different_blocks(instance):
    prompt = make_prompt(18, 100)
    with instance("one", ranks=2) as engine:
        first = engine.serve("first", prompt, most=3)
        engine.forget_own_cache()
        gate = threading.Event()
        for rank, wrong in enumerate((4, 2)):
            fail_a_block(engine.ranks[rank].connector.rank, wrong, gate if rank else None)
        engine.add("second", prompt, most=3)
        engine.run_until(lambda: engine.invalid)  # rank 0 has ended; rank 1 copies still
        (places,) = engine.scheduler.kv_cache_manager.get_block_ids("second")
        assert engine.invalid == {places[4]} and "second" not in engine.scheduled
        assert engine.agent.status()["pool"]["pins"] > 0
        gate.set()
        engine.complete("second")
        assert engine.invalid == {places[4], places[2]}
        assert engine.outputs["second"] == first
        assert engine.scheduled["second"] == 102 - 2 * 16
        engine.settle()
        assert pool_is_idle(engine)


def test_a_rank_that_still_copies_keeps_the_blocks_of_a_failed_request(instance):
    prompt = make_prompt(18, 100)
    with instance("one", ranks=2, policy="fail") as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        gate = threading.Event()
        fail_a_block(engine.ranks[0].connector.rank, 4, None)
        fail_a_block(engine.ranks[1].connector.rank, 2, gate)
        engine.add("second", prompt)
        engine.complete("second")
        for _ in range(5):
            engine.step()
        assert engine.free_blocks() < engine.free_at_start
        gate.set()
        engine.settle()
        assert pool_is_idle(engine)


def fail_a_block(rank, wrong: int, gate: threading.Event | None) -> None:
    """Have a rank's loads wait for the gate, where it has one, and fail the block at `wrong`."""
    load = rank._load

    def failing(one):
        if gate is not None:
            gate.wait(60)
        place = one.places[wrong]
        load(one)
        rank._places[place] = 0xff  # nothing right is there
        return {place}

    rank._load = failing
