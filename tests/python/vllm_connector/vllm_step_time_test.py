# SPDX-License-Identifier: Apache-2.0
"""Prints what the connector costs each step of vLLM's scheduler at 256 running requests, and with
others that wait for their prompts, and that are loaded, stored and sent beside them."""
import statistics
import time

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; `scripts/test.sh --vllm` installs it")

from vllm_connector_test import make_prompt  # noqa: E402
from vllm_instance import Instance  # noqa: E402

REQUESTS = 256
WAITING = 64
STEPS = 64
SCHEDULER = ("get_num_new_matched_tokens", "update_state_after_alloc", "build_connector_meta",
             "update_connector_output", "request_finished", "take_events",
             "get_kv_connector_stats", "has_pending_block_frees", "has_pending_push_work")
WORKER = ("bind_connector_metadata", "start_load_kv", "wait_for_save", "get_transfer_results",
          "get_block_ids_with_load_errors", "clear_connector_metadata")


class Clock:
    """Adds up the time spent in some methods of an object."""

    def __init__(self, target: object, names: tuple[str, ...]) -> None:
        self.spent = 0.0
        for name in names:
            setattr(target, name, self._timed(getattr(target, name)))

    def _timed(self, call):
        def timed(*arguments, **settings):
            begun = time.perf_counter()
            try:
                return call(*arguments, **settings)
            finally:
                self.spent += time.perf_counter() - begun
        return timed

    def take(self) -> float:
        """Give what was spent since the last call, in microseconds."""
        spent, self.spent = self.spent, 0.0
        return spent * 1e6


def time_steps(engine: Instance, clocks: tuple[Clock, ...]) -> list[list[float]]:
    """Give what each side took in each of STEPS steps, in microseconds."""
    for clock in clocks:
        clock.take()
    steps = []
    for _ in range(STEPS):
        engine.step()
        steps.append([clock.take() for clock in clocks])
    return steps


def print_steps(title: str, steps: list[list[float]]) -> None:
    print(f"{title}, {STEPS} steps:")
    for side, times in zip(("scheduler", "worker"), zip(*steps)):
        print(f"  {side:9}  median {statistics.median(times):7.1f} us a step, "
              f"most {max(times):7.1f} us")


def test_the_time_of_a_step_with_256_running_requests_is_printed(tmp_path, capsys):
    with Instance(tmp_path, "one", blocks=4096, pool_blocks=4096, wait=3600.0) as engine:
        for at in range(WAITING):  # are in the pool, and no longer vLLM's own
            engine.add(f"s{at}", make_prompt(1000 + at, 128))
        engine.complete(*(f"s{at}" for at in range(WAITING)))
        engine.forget_own_cache()
        names = [f"r{at}" for at in range(REQUESTS)]
        for at, name in enumerate(names):
            engine.add(name, make_prompt(at, 64), most=4 * STEPS)
        finish = Clock(engine.connector, ("request_finished",))
        clocks = (Clock(engine.connector, SCHEDULER), Clock(engine.ranks[0].connector, WORKER))
        admitted = 0.0
        while any(len(engine.outputs.get(name, ())) == 0 for name in names):
            engine.step()
            admitted += clocks[0].take()
        running = time_steps(engine, clocks)
        for at in range(WAITING):
            engine.add(f"w{at}", make_prompt(2000 + at, 3000), params={"do_remote_prefill": True})
        waiting = time_steps(engine, clocks)
        assert not any(f"w{at}" in engine.scheduled for at in range(WAITING))
        for at in range(WAITING):
            engine.abort(f"w{at}")
            engine.add(f"l{at}", make_prompt(1000 + at, 128))
        loading = time_steps(engine, clocks)
        assert all(engine.scheduled[f"l{at}"] == 16 for at in range(WAITING))
        finish.take()
        engine.complete(*names)
        ended = finish.take()
    with capsys.disabled():
        print(f"\nconnector, {REQUESTS} running requests of 64 prompt tokens")
        print_steps("nothing else under way", running)
        print_steps(f"{WAITING} that wait for prompts of 3000 tokens", waiting)
        print_steps(f"{WAITING} that are loaded, run and are stored", loading)
        print(f"admission of a request   {admitted / REQUESTS:7.1f} us (its match)")
        print(f"end of a request         {ended / REQUESTS:7.1f} us (its store is queued)")
