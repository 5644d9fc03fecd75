# SPDX-License-Identifier: Apache-2.0
"""Runs MempoolConnector under the real vLLM of PyPI: its scheduler, block pool and factory."""
import random
import socket
import threading
from functools import partial

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; `scripts/test.sh --vllm` installs it")

import torch  # noqa: E402
from vllm.v1.kv_cache_layout import KVCacheLayout  # noqa: E402
from vllm_instance import BLOCK, Instance, Rank  # noqa: E402

import mempool  # noqa: E402
from mempool.vllm_scheduler import Load  # noqa: E402

TO_DECODE = {"do_remote_decode": True, "mempool_target": "decode"}


def make_prompt(seed: int, length: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(32000) for _ in range(length)]


def pool_is_idle(engine: Instance) -> bool:
    """Tell whether nothing is pinned, in vLLM's tensors or in the pool."""
    status = engine.agent.status()
    assert status["audit"] == "ok"
    return status["pool"]["pins"] == 0 and engine.free_blocks() == engine.free_at_start


@pytest.fixture(params=[False, True], ids=["in_turn", "ahead"])
def instance(request, tmp_path):
    """Make instances that schedule a step after the one before, or ahead of its output."""
    return partial(Instance, tmp_path, ahead=request.param)


@pytest.fixture(params=["tcp", "shm"])
def pair(request, instance):
    """Prefill and decode; over shm the peer reads vLLM's tensors where they lie."""
    agent = {"transports": [request.param]}
    with instance("decode", role="kv_consumer", agent=agent) as decode:
        with instance("prefill", role="kv_producer",
                      agent={**agent, "peers": {"decode": decode.agent.listen}}) as prefill:
            yield prefill, decode


def test_a_prompt_is_served_from_the_pool_when_vllm_has_forgotten_it(instance):
    prompt = make_prompt(1, 100)
    with instance("one") as engine:
        first = engine.serve("first", prompt, most=4)
        assert engine.scheduled["first"] == 103
        engine.forget_own_cache()
        assert engine.serve("second", prompt, most=4) == first
        assert engine.scheduled["second"] == 103 - 96
        engine.settle()
        assert pool_is_idle(engine)


def test_a_longer_prompt_loads_what_is_behind_vllms_own_prefix(instance):
    prompt = make_prompt(2, 100)
    with instance("one") as engine:
        engine.serve("long", prompt)
        engine.forget_own_cache()
        engine.serve("short", prompt[:40])  # 2 blocks are vLLM's own again
        engine.serve("again", prompt)
        assert engine.scheduled["again"] == 4
        engine.settle()
        assert pool_is_idle(engine)


def test_what_is_prefilled_here_is_decoded_there_with_the_same_bytes(pair):
    prefill, decode = pair
    prompt = make_prompt(3, 75)
    prefill.serve("request", prompt, params=TO_DECODE)
    told = prefill.told["request"]
    assert told["do_remote_prefill"] and told["mempool_content"]
    decode.add("request", prompt, most=5, params=told)
    decode.run_until(lambda: prefill.step() or "request" in decode.ended)
    assert decode.scheduled["request"] == 75 - 64 + 4
    assert decode.outputs["request"][0] == prefill.outputs["request"][0]
    prefill.settle()
    decode.settle()
    assert pool_is_idle(prefill) and pool_is_idle(decode)


def test_decode_waits_for_what_is_on_its_way(pair):
    prefill, decode = pair
    prompt = make_prompt(4, 64)
    decode.add("request", prompt, params={"do_remote_prefill": True})
    for _ in range(20):
        decode.step()
    assert "request" not in decode.scheduled
    prefill.serve("request", prompt, params=TO_DECODE)
    decode.run_until(lambda: prefill.step() or "request" in decode.ended)
    assert decode.scheduled["request"] == 16  # the last block is vLLM's, for its logits


def test_decode_computes_what_never_arrives(instance):
    with instance("decode", wait=0.0) as decode:
        decode.serve("request", make_prompt(5, 50), params={"do_remote_prefill": True})
        assert decode.scheduled["request"] == 50


def test_an_unknown_target_costs_the_transfer_and_no_block(pair):
    prefill, _ = pair
    prefill.serve("request", make_prompt(6, 50),
                  params={"do_remote_decode": True, "mempool_target": "nobody"})
    prefill.settle()
    assert pool_is_idle(prefill)


def test_another_salt_never_meets_these_blocks(instance):
    prompt = make_prompt(7, 64)
    with instance("one") as engine:
        engine.serve("mine", prompt, salt="mine")
        engine.forget_own_cache()
        engine.serve("yours", prompt, salt="yours")
        assert engine.scheduled["yours"] == 64
        engine.forget_own_cache()
        engine.serve("mine again", prompt, salt="mine")
        assert engine.scheduled["mine again"] == 16


def test_nothing_stored_before_a_reset_matches_after_it(instance):
    prompt = make_prompt(30, 64)
    with instance("one") as engine:
        engine.serve("before", prompt)
        engine.settle()
        assert engine.scheduler.reset_prefix_cache(reset_connector=True)
        engine.serve("after", prompt)
        assert engine.scheduled["after"] == 64
        engine.forget_own_cache()
        engine.serve("again", prompt)
        assert engine.scheduled["again"] == 16


def test_requests_that_share_blocks_are_stored_side_by_side(instance):
    shared = make_prompt(8, 48)
    with instance("one") as engine:
        for at in range(6):
            engine.add(f"r{at}", shared + make_prompt(100 + at, 20), most=2)
        engine.complete(*(f"r{at}" for at in range(6)))
        engine.settle()
        assert pool_is_idle(engine)
        assert engine.agent.status()["index"]["blocks"] == 3 + 6


def test_blocks_stay_vllms_until_the_store_has_ended(instance):
    with instance("one") as engine:
        engine.serve("request", make_prompt(9, 64))
        assert "request" in engine.scheduler.requests  # ended for its client, and fenced here
        assert engine.free_blocks() == engine.free_at_start - 4
        engine.settle()
        assert pool_is_idle(engine)


def test_blocks_are_not_freed_while_a_transfer_reads_them(instance):
    """The target takes the connection and says nothing, until it is gone."""
    deaf = socket.create_server(("127.0.0.1", 0))
    peer = f"127.0.0.1:{deaf.getsockname()[1]}"
    with instance("one", role="kv_producer",
                  agent={"peers": {"deaf": peer}, "peer_timeout": 60.0}) as engine:
        engine.serve("request", make_prompt(10, 64),
                     params={"do_remote_decode": True, "mempool_target": "deaf"})
        engine.run_until(lambda: engine.agent.status()["index"]["blocks"] == 4)
        for _ in range(20):
            engine.step()
        assert "request" in engine.scheduler.requests
        assert engine.free_blocks() == engine.free_at_start - 4
        deaf.close()
        engine.settle()
        assert pool_is_idle(engine)


def hold_loads(engine: Instance):
    """Keep the loading thread from its work; gives what lets it go."""
    gate = threading.Event()
    rank = engine.ranks[0].connector.rank
    load = rank._load
    rank._load = lambda one: gate.wait(60) and load(one)
    return gate.set


def test_an_abort_amid_a_load_frees_the_blocks_when_it_has_ended(instance):
    prompt = make_prompt(11, 100)
    with instance("one") as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        go_on = hold_loads(engine)
        engine.add("second", prompt)
        engine.step()
        engine.step()
        engine.abort("second")
        assert not engine.connector.scheduler.frees_soon()  # what is half loaded is not stored
        for _ in range(5):
            engine.step()
        assert engine.free_blocks() < engine.free_at_start
        assert engine.agent.status()["pool"]["pins"] > 0
        go_on()
        engine.settle()
        assert pool_is_idle(engine)


def test_an_abort_before_it_runs_lets_the_matched_blocks_go(instance):
    prompt = make_prompt(12, 100)
    with instance("one", blocks=8) as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        engine.add("large", make_prompt(13, 90), most=16)
        engine.step()  # takes nearly all blocks
        engine.add("second", prompt)
        engine.step()
        assert engine.agent.status()["pool"]["pins"] > 0  # matched, and no room to load into
        engine.abort("second")
        engine.complete("large")
        engine.settle()
        assert pool_is_idle(engine)


def test_an_aborted_request_is_stored_up_to_what_steps_have_computed(instance):
    """As one is that ends by a stop string, which vLLM finds outside its scheduler."""
    prompt = make_prompt(14, 64)
    with instance("one") as engine:
        request = engine.add("request", prompt, most=8)
        engine.step()
        computed = 0 if engine.ahead else 4  # ahead, the first step has no output yet
        assert (request.num_computed_tokens - request.num_in_flight_tokens) // BLOCK == computed
        engine.abort("request")
        engine.settle()
        assert engine.agent.status()["index"]["blocks"] == computed
        engine.add("longer", prompt + [1], most=8)
        engine.run_until(lambda: engine.outputs.get("longer"))
        engine.abort("longer")
        engine.forget_own_cache()
        engine.serve("again", prompt + [1])
        assert engine.scheduled["again"] == 1
        engine.settle()
        assert pool_is_idle(engine)


def test_preempted_requests_end_right_and_hold_nothing(instance):
    with instance("one", blocks=12) as engine:
        for at in range(4):
            engine.add(f"r{at}", make_prompt(20 + at, 40), most=40)
        preempted = 0
        while len(engine.ended) < 4:
            engine.step()
            preempted = max([preempted, *(request.num_preemptions for request in
                                          engine.scheduler.requests.values())])
        assert preempted > 0
        engine.settle()
        assert pool_is_idle(engine)


def spoil(engine: Instance, prompt: list[int], block: int) -> None:
    """Change one byte of a stored block."""
    request = engine.add("probe", prompt)
    content = engine.connector.scheduler.content_of(request)
    engine.abort("probe")
    match = engine.agent.match(content, prompt)
    piece = memoryview(engine.agent.piece(match.blocks[block], 1, 1)).cast("B")
    piece[0] ^= 1
    engine.agent.unpin(match.blocks)


def test_a_block_whose_bytes_changed_is_named_and_computed_anew(instance):
    prompt = make_prompt(15, 100)
    with instance("one", agent={"verify": "always"}) as engine:
        first = engine.serve("first", prompt, most=3)
        engine.forget_own_cache()
        spoil(engine, prompt, 2)
        engine.add("second", prompt, most=3)
        engine.step()
        (places,) = engine.scheduler.kv_cache_manager.get_block_ids("second")
        engine.complete("second")
        assert engine.invalid == {places[2]}
        assert engine.outputs["second"] == first
        assert engine.scheduled["second"] == 102 - 2 * BLOCK
        engine.settle()
        assert pool_is_idle(engine)


def test_a_failed_load_fails_the_request_where_vllm_is_told_so(instance):
    prompt = make_prompt(16, 100)
    with instance("one", agent={"verify": "always"}, policy="fail") as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        spoil(engine, prompt, 0)
        engine.add("second", prompt)
        engine.complete("second")
        assert engine.outputs["second"] == []
        engine.settle()
        assert pool_is_idle(engine)


@pytest.mark.parametrize("layout", ["LBHNC", "LBNHC", "BLHNC", "BLNHC"])
def test_each_layout_whose_blocks_are_single_runs_is_kept(instance, layout):
    prompt = make_prompt(17, 100)
    with instance("one", layout=KVCacheLayout[layout]) as engine:
        engine.serve("first", prompt)
        engine.forget_own_cache()
        engine.serve("second", prompt)
        assert engine.scheduled["second"] == 4


def test_two_ranks_are_shards_of_one_agent(instance):
    prompt = make_prompt(18, 75)
    with instance("decode", ranks=2) as decode:
        with instance("prefill", ranks=2,
                      agent={"peers": {"decode": decode.agent.listen}}) as prefill:
            assert prefill.agent.shards == 2
            prefill.serve("request", prompt, params=TO_DECODE)
            decode.add("request", prompt, most=3, params=prefill.told["request"])
            decode.run_until(lambda: prefill.step() or "request" in decode.ended)
            assert decode.scheduled["request"] == 75 - 64 + 2
            prefill.settle()
            decode.settle()
            assert pool_is_idle(prefill) and pool_is_idle(decode)


def test_ranks_that_split_pages_otherwise_never_meet(instance):
    with instance("decode", ranks=2) as decode:
        with instance("prefill", role="kv_producer",
                      agent={"peers": {"decode": decode.agent.listen}}) as prefill:
            prompt = make_prompt(19, 64)
            prefill.serve("request", prompt, params=TO_DECODE)
            prefill.settle()
            decode.serve("request", prompt, params=prefill.told["request"])
            assert decode.scheduled["request"] == 64


def test_another_models_blocks_are_refused_before_a_byte_moves(tmp_path):
    prompt = make_prompt(31, 64)
    with Instance(tmp_path / "other", "decode") as decode:
        with Instance(tmp_path, "prefill",
                      agent={"peers": {"decode": decode.agent.listen}}) as prefill:
            prefill.serve("request", prompt, params=TO_DECODE)
            prefill.settle()
            decode.serve("request", prompt, params=prefill.told["request"])
            assert decode.scheduled["request"] == 64


def test_stale_blocks_are_named_and_no_other_one(instance):
    prompt = make_prompt(32, 64)
    with instance("one") as engine:
        request = engine.add("request", prompt)
        engine.complete("request")
        engine.settle()
        agent, content = engine.agent, engine.connector.scheduler.content_of(request)
        match = agent.match(content, prompt)
        agent.unpin(match.blocks)
        agent.erase(content, prompt)  # the last block alone
        load = Load("request", bytes(match.blocks), [1, 2, 3, 4])
        assert engine.ranks[0].connector.rank._load(load) == {4}


def test_a_second_engine_for_a_rank_is_refused(tmp_path):
    with Instance(tmp_path, "one") as engine:
        engine.serve("request", make_prompt(33, 20))
        config = engine.scheduler.vllm_config
        second = Rank(config, 0, 1, engine.scheduler.kv_cache_config, KVCacheLayout.LBHNC)
        with pytest.raises(mempool.AlreadyExists):
            second.run(engine.connector.build_connector_meta(None), [], set())
        second.connector.shutdown()


def test_a_tensor_that_lies_elsewhere_is_refused(instance):
    with instance("one") as engine:
        rank = engine.ranks[0]
        copies = {name: tensor.clone() for name, tensor in rank.tensors.items()}
        with pytest.raises(ValueError, match="get_mem_pool_context"):
            rank.connector.register_kv_caches(copies)
        with pytest.raises(ValueError, match="of float32, and the configuration says float16"):
            rank.connector.register_kv_caches(
                {name: tensor.to(torch.float32) for name, tensor in copies.items()})
        with pytest.raises(ValueError, match="not contiguous"):
            rank.connector.register_kv_caches(
                {name: tensor.transpose(1, 2).contiguous().transpose(1, 2)
                 for name, tensor in copies.items()})
        with pytest.raises(ValueError, match="--block-size"):
            rank.connector.register_kv_caches(
                {name: tensor.reshape(128, 2, 8, 16) for name, tensor in copies.items()})
