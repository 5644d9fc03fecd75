# SPDX-License-Identifier: Apache-2.0
"""Runs two tensor-parallel ranks as processes of their own, as vLLM's executor does."""
import faulthandler
import multiprocessing
import os
import pathlib
import signal
import time
import traceback

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; `scripts/test.sh --vllm` installs it")

from vllm_connector_test import TO_DECODE, make_prompt, pool_is_idle  # noqa: E402
from vllm.v1.kv_cache_layout import KVCacheLayout  # noqa: E402
from vllm_instance import Instance, Rank, make_config, make_kv_config  # noqa: E402

BLOCKS, RANKS = 64, 2
HANG_SECONDS = 300  # each process imports vllm anew


@pytest.fixture(autouse=True)
def _say_where_it_hangs():
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def run_rank(pipe, model: str, rank: int) -> None:
    """Be the worker of a rank until the pipe says None; an answer is what a step gave, or why."""
    layout = KVCacheLayout.LBHNC
    worker = Rank(make_config(model, blocks=BLOCKS, ranks=RANKS), rank, RANKS,
                  make_kv_config(BLOCKS, RANKS, layout), layout)
    pipe.send("ready")
    while (step := pipe.recv()) is not None:
        try:
            pipe.send(worker.run(*step))
        except Exception:
            pipe.send(traceback.format_exc())
    worker.connector.shutdown()


class RankProcess:
    """A rank in another process, for Instance: what it is told is pickled on the way."""

    def __init__(self, model: str, rank: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.connector = self
        self.process = spawn.Process(target=run_rank, args=(theirs, model, rank))
        self.process.start()

    def run(self, *step):
        self.pipe.send(step)
        answer = self.pipe.recv()
        assert not isinstance(answer, str), answer
        return answer

    def shutdown(self) -> None:
        if self.process.is_alive():
            self.pipe.send(None)
        self.process.join(60)
        assert not self.process.is_alive()


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(
        (str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", ""))))
    with Instance(tmp_path, "one", ranks=RANKS, make_ranks=False) as engine:
        engine.ranks = [RankProcess(str(tmp_path / "model"), rank) for rank in range(RANKS)]
        for rank in engine.ranks:
            assert rank.pipe.recv() == "ready"
        yield engine


def test_ranks_in_their_own_processes_share_one_index(engine, tmp_path):
    prompt = make_prompt(1, 75)
    with Instance(tmp_path, "decode", ranks=RANKS) as decode:
        engine.agent.add_peer("decode", decode.agent.listen)
        first = engine.serve("first", prompt, most=3, params=TO_DECODE)
        engine.forget_own_cache()
        assert engine.serve("second", prompt, most=3) == first
        assert engine.scheduled["second"] == 77 - 64
        assert len(engine.agent.status()["engines"]) == RANKS
        decode.serve("first", prompt, params=engine.told["first"])
        assert decode.scheduled["first"] == 75 - 64
        decode.settle()
        assert pool_is_idle(decode)
        engine.settle()
        assert pool_is_idle(engine)


def test_a_killed_rank_gives_back_what_it_lent(engine):
    engine.serve("first", make_prompt(2, 75))
    engine.settle()
    os.kill(engine.ranks[1].process.pid, signal.SIGKILL)
    engine.ranks[1].process.join()
    engine.ranks[0].shutdown()
    limit = time.monotonic() + 60
    while engine.agent.status()["adopted"] and time.monotonic() < limit:
        time.sleep(0.01)
    status = engine.agent.status()
    assert not status["adopted"] and not status["engines"]
    assert status["audit"] == "ok" and status["pool"]["pins"] == 0
