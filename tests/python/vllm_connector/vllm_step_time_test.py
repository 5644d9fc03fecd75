# SPDX-License-Identifier: Apache-2.0
"""Prints what the connector costs each step of vLLM's scheduler at 256 running requests."""
import statistics
import time

import pytest

pytest.importorskip("vllm", reason="vllm is not installed; `scripts/test.sh --vllm` installs it")

from vllm_connector_test import make_prompt  # noqa: E402
from vllm_instance import Instance  # noqa: E402

REQUESTS = 256
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


def test_the_time_of_a_step_with_256_running_requests_is_printed(tmp_path, capsys):
    with Instance(tmp_path, "one", blocks=4096, pool_blocks=4096) as engine:
        for at in range(REQUESTS):
            engine.add(f"r{at}", make_prompt(at, 64), most=STEPS + 16)
        clocks = (Clock(engine.connector, SCHEDULER), Clock(engine.ranks[0].connector, WORKER))
        admitted = 0.0
        while any(len(engine.outputs.get(f"r{at}", ())) == 0 for at in range(REQUESTS)):
            engine.step()
            admitted += clocks[0].take()
        assert len(engine.scheduler.running) == REQUESTS
        clocks[1].take()
        steps = []
        for _ in range(STEPS):
            engine.step()
            steps.append([clock.take() for clock in clocks])
        assert len(engine.scheduler.running) == REQUESTS
        engine.complete(*(f"r{at}" for at in range(REQUESTS)))
        ended = clocks[0].take()
    with capsys.disabled():
        print(f"\nconnector, {REQUESTS} running requests of 64 prompt tokens, {STEPS} steps:")
        for side, times in zip(("scheduler", "worker"), zip(*steps)):
            print(f"  {side:9}  median {statistics.median(times):7.1f} us a step, "
                  f"most {max(times):7.1f} us")
        print(f"  admission of a request   {admitted / REQUESTS:7.1f} us (its match)")
        print(f"  end of a request         {ended / REQUESTS:7.1f} us (its store is queued)")
