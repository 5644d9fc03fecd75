# SPDX-License-Identifier: Apache-2.0
"""Owns the agents that tests stand on, and the moment at which a test has hung."""
import faulthandler
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import mempool
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
HANG_SECONDS = 60


@pytest.fixture(autouse=True)
def _say_where_it_hangs() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def start() -> Iterator[Callable[..., mempool.Agent]]:
    """Start agents that end with the test."""
    with ExitStack() as agents:
        def agent(**fields: object) -> mempool.Agent:
            fields = {"content": SPEC, "segment_blocks": [32], "verify": "always"} | fields
            return agents.enter_context(mempool.Agent.start(**fields))

        yield agent


@pytest.fixture
def pool(start: Callable[..., mempool.Agent]) -> mempool.Agent:
    return start()


@pytest.fixture
def pair(start: Callable[..., mempool.Agent]) -> tuple[mempool.Agent, mempool.Agent]:
    """A source and its target."""
    target = start(name="target")
    return start(name="source", peers={"target": target.listen}), target
