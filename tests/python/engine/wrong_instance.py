# SPDX-License-Identifier: Apache-2.0
"""Owns an instance that does everything right but for one float of the KV it found or was sent."""
from reference_engine import instance
from reference_engine.engine import Engine

serve, use_cached, pair = instance.serve, Engine._use_cached, Engine._pair


def use_cached_wrong(engine, sequence, found):
    """Negate a float of a key in the first block found."""
    use_cached(engine, sequence, found)
    if sequence.blocks:
        engine.pages[sequence.blocks.indices[0], 1, 0, 3, 0, 5] *= -1


def pair_wrong(engine, number):
    """Negate the same float of what has arrived."""
    if number in engine._awaited and number in engine._arrived:
        engine.pages[engine._arrived[number].blocks.indices[0], 1, 0, 3, 0, 5] *= -1
    pair(engine, number)


def serve_wrong(setup, front):
    """Be an instance, as instance.serve, in a process of its own."""
    disaggregated = setup.name in ("prefill", "decode")
    if disaggregated:
        Engine._pair = pair_wrong
    else:
        Engine._use_cached = use_cached_wrong
    serve(setup, front)


def start_wrong(setup):
    """Start it as instance.start does."""
    instance.serve = serve_wrong
    try:
        return start(setup)
    finally:
        instance.serve = serve


start = instance.start
