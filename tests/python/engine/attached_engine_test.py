# SPDX-License-Identifier: Apache-2.0
"""Tests an engine beside its agent: it serves, dies with blocks in hand, or comes twice."""
import multiprocessing
import os
import signal
import time

import mempool
import pytest
from two_instances import unsettled_blocks

from reference_engine import weights
from reference_engine.engine import Engine
from reference_engine.instance import Setup, content_spec
from reference_engine.llama import LlamaConfig
from reference_engine.messages import Failed, FirstToken, Policy, Request, Settled

SPEC = content_spec("small", LlamaConfig())
PROMPT = tuple(range(200))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "engine")


@pytest.fixture
def agent(path):
    with mempool.Agent.start(name="beside", content=SPEC, segment_blocks=[64], transports=["tcp"],
                             engine_socket=path) as started:
        yield started


def serve(path, pipe):
    """Be an engine that reports what it tells, until its request is settled or it is killed."""
    with mempool.attach(path) as pool:
        engine = Engine(weights.load("small"), pool, SPEC, Policy(reuse=True), pipe.send,
                        lambda transfer, then: None)
        engine.submit(pipe.recv())
        while engine.patience_s is not None:
            engine.step()


def start(what, path):
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=what, args=(path, theirs), daemon=True)
    process.start()
    return process, ours


def wait_until(holds):
    """Wait, for a time that only a defect takes."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_what_an_attached_engine_publishes_outlives_it(agent, path):
    process, pipe = start(serve, path)
    pipe.send(Request(1, PROMPT, 3))
    while not isinstance(pipe.recv(), Settled):
        continue
    process.join()
    wait_until(lambda: not unsettled_blocks(agent.status()))
    match = agent.match(agent.content(SPEC), list(PROMPT))
    assert match.tokens == 192
    agent.unpin(match.blocks)


def test_an_engine_that_dies_holding_blocks_gives_them_back(agent, path):
    process, pipe = start(serve, path)
    pipe.send(Request(1, PROMPT, 700))
    assert isinstance(pipe.recv(), FirstToken)
    assert unsettled_blocks(agent.status())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wait_until(lambda: not unsettled_blocks(agent.status()))
    blocks = agent.status()["pool"]["blocks"]
    assert blocks["free"] + blocks["published"] == agent.status()["pool"]["total"]


def be_agent(path, pipe):
    """Be an agent until it is killed."""
    with mempool.Agent.start(name="beside", content=SPEC, segment_blocks=[64], transports=["tcp"],
                             engine_socket=path):
        pipe.send("started")
        pipe.recv()


def test_an_engine_whose_agent_dies_says_so_of_each_request(path):
    process, pipe = start(be_agent, path)
    assert pipe.recv() == "started"
    told = []
    with mempool.attach(path) as pool:
        engine = Engine(weights.load("small"), pool, SPEC, Policy(reuse=True), told.append,
                        lambda transfer, then: None)
        for number in (1, 2):
            engine.submit(Request(number, PROMPT, 5))
        engine.step()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while engine.patience_s is not None:
            engine.step()
    assert sorted(failed.number for failed in told if isinstance(failed, Failed)) == [1, 2]
    assert all("UNAVAILABLE" in failed.error for failed in told if isinstance(failed, Failed))


def test_a_second_engine_for_a_shard_is_refused(agent, path):
    with mempool.attach(path):
        with pytest.raises(mempool.AlreadyExists):
            mempool.attach(path, timeout=0.1)


def test_an_engine_of_another_model_is_told_the_dimension():
    other = content_spec("small", LlamaConfig(num_key_value_heads=2))
    with mempool.Agent.start(name="other", content=other, segment_blocks=[8]) as pool:
        with pytest.raises(mempool.InvalidArgument, match="heads"):
            Engine(weights.load("small"), pool, SPEC, Policy(), print, print)
