# SPDX-License-Identifier: Apache-2.0
"""Owns what tests of instances share: a small workload, two setups, and the audit of both pools."""
import time

from reference_engine.conversations import draw
from reference_engine.front import Front
from reference_engine.instance import Setup
from reference_engine.messages import Policy

VOCABULARY = 512  # of the random model


def setups(transport: str = "shm", blocks: int = 256) -> list[Setup]:
    """Give the setups of two instances, all but name and policy."""
    return [Setup("", Policy(), transport=transport, blocks=blocks, verify="always")] * 2


def conversations(count: int = 2, turns: int = 2):
    """Give few and short conversations, always the same."""
    return draw(seed=5, count=count, turns=turns, vocabulary=VOCABULARY)


def unsettled_blocks(status: dict) -> dict:
    """Give the blocks of an agent that are neither free nor published, and what pins there are."""
    blocks = status["pool"]["blocks"]
    held = {state: count for state, count in blocks.items()
            if count and state not in ("free", "published")}
    return held | ({"pins": status["pool"]["pins"]} if status["pool"]["pins"] else {})


def wait_until_settled(front: Front) -> list[dict]:
    """Wait until no block is held or in quarantine, for a time that only a defect takes."""
    end = time.monotonic() + 30
    while True:
        statuses = front.status()
        held = [unsettled_blocks(status) for status in statuses]
        if not any(held):
            return statuses
        assert time.monotonic() < end, held
        time.sleep(0.05)
