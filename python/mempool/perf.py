# SPDX-License-Identifier: Apache-2.0
"""Measures what a call from Python takes a block, in batches, beside nothing that it moves.

usage: python -m mempool.perf [--blocks 64] [--repeat 201] [--json FILE]
"""
import argparse
import json
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mempool

_TOKENS_PER_BLOCK = 16
_SPEC = mempool.ContentSpec(
    model="perf", layers=1, kv_heads=1, head_size=8, tokens_per_block=_TOKENS_PER_BLOCK
)


@contextmanager
def _pair(blocks: int) -> Iterator[tuple[mempool.Agent, mempool.Agent]]:
    """Give a source and its target, of blocks so small that moving them takes next to nothing."""
    options: dict[str, Any] = {"content": _SPEC, "segment_blocks": [blocks * 4]}
    with mempool.Agent.start(name="target", **options) as target:
        with mempool.Agent.start(
            name="source", peers={"target": target.listen}, **options
        ) as source:
            yield source, target


def _median_us(step: Callable[[int], float], repeat: int, blocks: int) -> float:
    """Give the median of a step's seconds, in us a block. The first ones warm up."""
    for turn in range(10):
        step(turn)
    return statistics.median(step(turn) for turn in range(10, 10 + repeat)) * 1e6 / blocks


def _measure(blocks: int, repeat: int) -> dict[str, float]:
    """Give us a block of each call. Only the call itself is timed, not what cleans up after it."""
    with _pair(blocks) as (source, target):
        content = source.content(_SPEC)

        def tokens(turn: int) -> "array[int]":
            return array("I", [turn] * (blocks * _TOKENS_PER_BLOCK))

        def timed(call: Callable[..., Any], *arguments: object) -> tuple[float, Any]:
            begin = time.perf_counter()
            result = call(*arguments)
            return time.perf_counter() - begin, result

        def alloc(_: int) -> float:
            seconds, taken = timed(source.alloc, blocks)
            source.free(taken)
            return seconds

        def free(_: int) -> float:
            return timed(source.free, source.alloc(blocks))[0]

        def insert(turn: int) -> float:
            taken = source.alloc(blocks)
            seconds, _ = timed(source.insert, content, tokens(turn), taken)
            source.unpin(taken)
            source.erase(content, tokens(turn)[:_TOKENS_PER_BLOCK])
            return seconds

        held = source.alloc(blocks)
        known = tokens(2**32 - 1)
        source.insert(content, known, held)

        def match(_: int, prompt: object = known) -> float:
            seconds, found = timed(source.match, content, prompt)
            source.unpin(found.blocks)
            return seconds

        def unpin(_: int) -> float:
            return timed(source.unpin, source.match(content, known).blocks)[0]

        def submit(_: int) -> float:
            seconds, transfer = timed(
                source.transfer_with_insert, "target", content, known, held
            )
            transfer.wait()
            target.unpin(target.receive(5).blocks)
            return seconds

        as_list = known.tolist()
        steps = {
            "alloc": alloc,
            "free": free,
            "insert": insert,
            "match": match,
            "match, tokens as a list": lambda turn: match(turn, as_list),
            "unpin": unpin,
            "submit": submit,
        }
        return {name: _median_us(step, repeat, blocks) for name, step in steps.items()}


def main() -> None:
    """Print the table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m mempool.perf", description=__doc__)
    parser.add_argument("--blocks", type=int, default=64, help="in a batch (64)")
    parser.add_argument("--repeat", type=int, default=201, help="batches a median is of (201)")
    parser.add_argument("--json", metavar="FILE")
    asked = parser.parse_args()
    rows = _measure(asked.blocks, asked.repeat)
    print(f"{'call':<26}{'us a block':>12}   in batches of {asked.blocks}, medians")
    for name, value in rows.items():
        print(f"{name:<26}{value:>12.3f}")
    if asked.json:
        with open(asked.json, "w", encoding="utf-8") as file:
            json.dump({"blocks": asked.blocks, "us_per_block": rows}, file, indent=1)


if __name__ == "__main__":
    main()
