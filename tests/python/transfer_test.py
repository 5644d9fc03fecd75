# SPDX-License-Identifier: Apache-2.0
"""Tests transfers between two agents: waiting, asyncio, fences, layers, cancels and errors."""
import asyncio
import ctypes
import queue
import select
import threading

import mempool
import numpy as np
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
TOKENS = list(range(40))


def filled(pool, value=1.0, count=3):
    blocks = pool.alloc(count)
    for row in (pool.segment_of(block)[1] for block in blocks):
        np.asarray(pool.segment())[row] = value
    return blocks


def test_what_is_sent_is_found_there(pair):
    source, target = pair
    content = source.content(SPEC)
    transfer = source.transfer_with_insert(
        "target", content, TOKENS, filled(source, 3), request_id=5, user_data=b"\0state",
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert transfer.wait() is None and transfer.done()
    arrival = target.receive(5)
    assert (arrival.source, arrival.request_id, arrival.user_data) == ("source", 5, b"\0state")
    assert arrival.tokens.tolist() == TOKENS and arrival.content == content
    assert (len(arrival.blocks), arrival.last_block_tokens) == (3, 8)
    found = target.match(content, TOKENS)
    assert found.tokens == 32 and found.blocks == arrival.blocks[:2]
    assert (np.asarray(target.piece(found.blocks[1], 1, 1)) == 3).all()
    report = transfer.report()
    assert report.transport == "tcp" and report.bytes == 3 * 4096
    assert report.serving == arrival.blocks
    target.unpin(arrival.blocks)


def test_an_arrival_can_be_sent_on_by_its_own_tokens(pair):
    source, target = pair
    content = source.content(SPEC)
    source.transfer_with_insert("target", content, TOKENS[:32], filled(source, count=2)).wait()
    arrival = target.receive(5)
    assert target.match(content, arrival.tokens).tokens == 32


def test_await_gives_the_report_and_arrivals(pair):
    source, target = pair
    content = source.content(SPEC)

    async def both():
        waiting = asyncio.gather(target.arrival(), target.arrival())
        await asyncio.sleep(0)
        sends = [
            source.transfer_with_insert("target", content, [start] * 16, filled(source, count=1))
            for start in (1, 2)
        ]
        # Two may wait for one transfer, too.
        reports = await asyncio.gather(*sends, sends[0])
        return reports, await waiting

    reports, arrivals = asyncio.run(both())
    assert [report.tokens for report in reports] == [16, 16, 16]
    assert sorted(arrival.tokens[0] for arrival in arrivals) == [1, 2]


def test_await_raises_as_wait_does(pair):
    source, _ = pair

    async def cancelled():
        transfer = source.transfer_with_insert(
            "target", source.content(SPEC), TOKENS, filled(source), ready=mempool.Fence()
        )
        transfer.cancel()
        await transfer

    with pytest.raises(mempool.Cancelled):
        asyncio.run(cancelled())


def test_a_task_that_is_cancelled_leaves_the_loop_as_it_was(pair):
    source, target = pair

    async def cancelled():
        task = asyncio.ensure_future(target.arrival())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        source.transfer_with_insert("target", source.content(SPEC), TOKENS, filled(source))
        return await target.arrival()

    assert asyncio.run(cancelled()).tokens.tolist() == TOKENS


def test_a_fence_holds_the_data_back(pair):
    source, target = pair
    content = source.content(SPEC)
    ready = mempool.Fence()
    blocks = filled(source, 1)
    transfer = source.transfer_with_insert("target", content, TOKENS, blocks, ready=ready)
    with pytest.raises(mempool.DeadlineExceeded, match="goes on"):
        transfer.wait(0.02)
    with pytest.raises(mempool.Unavailable, match="wait"):
        transfer.report()
    np.asarray(source.segment())[:] = 2
    assert not ready.reached()
    threading.Thread(target=ready.signal).start()
    transfer.wait()
    assert ready.reached()
    assert (np.asarray(target.piece(target.receive(5).blocks[0], 0, 0)) == 2).all()


def test_layers_are_sent_as_they_come(pair):
    source, target = pair
    content = source.content(SPEC)
    transfer = source.transfer_with_insert(
        "target", content, TOKENS, filled(source), mode=mempool.TransferMode.BY_LAYER
    )
    transfer.send_layers(1, 1)
    with pytest.raises(mempool.InvalidArgument):
        transfer.send_layers(1, 1)
    with pytest.raises(mempool.InvalidArgument, match="layer 0"):
        transfer.commit()
    transfer.send_layers(first=0, count=1, ready=None)
    transfer.commit()
    transfer.wait(10)
    assert target.receive(5).tokens.tolist() == TOKENS


def test_fileno_is_readable_at_the_end(pair):
    source, _ = pair
    ready = mempool.Fence()
    transfer = source.transfer_with_insert(
        "target", source.content(SPEC), TOKENS, filled(source), ready=ready
    )
    assert select.select([transfer], [], [], 0)[0] == []
    ready.signal()
    assert select.select([transfer], [], [], 10)[0] == [transfer]


def test_on_done_hears_how_it_ended(pair):
    source, _ = pair
    heard = []
    ended = threading.Event()

    def on_done(error):
        heard.append(error)
        ended.set()

    content = source.content(SPEC)
    source.transfer_with_insert("target", content, TOKENS, filled(source), on_done=on_done)
    assert ended.wait(10) and heard == [None]
    ended.clear()
    transfer = source.transfer_with_insert(
        "target", content, TOKENS, filled(source), on_done=on_done, ready=mempool.Fence()
    )
    transfer.cancel()
    assert ended.wait(10) and isinstance(heard[1], mempool.Cancelled)


def test_on_done_may_call_everything_also_what_waits(pair):
    source, target = pair
    content = source.content(SPEC)
    heard = queue.SimpleQueue()
    kv = np.zeros((6, 2, 2, 16, 4, 8), dtype=np.float16)

    def on_done(error):
        source.free(source.alloc(1, instance="target", deadline=10))
        source.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
        source.withdraw("kv")
        source.grow(8)
        source.transfer_with_insert("target", content, [7] * 16, filled(source, count=1)).wait()
        with pytest.raises(mempool.DeadlineExceeded):
            source.receive(0.01)
        source.drain(10)
        source.close()
        heard.put(error)

    source.transfer_with_insert("target", content, TOKENS, filled(source), on_done=on_done)
    assert heard.get(timeout=30) is None
    assert source.closed and target.match(target.content(SPEC), [7] * 16).tokens == 16


def test_callables_that_wait_for_the_interpreter_hold_no_transfer_up(pair):
    source, _ = pair
    content = source.content(SPEC)
    first = [
        source.transfer_with_insert("target", content, [number] * 16, filled(source, count=1),
                                    on_done=lambda error: None)
        for number in range(8)
    ]
    last = source.transfer_with_insert("target", content, TOKENS, filled(source))
    poll = (ctypes.c_int * 2)(last.fileno(), select.POLLIN)
    # Keeps the interpreter to itself until the transfer has ended.
    assert ctypes.PyDLL(None).poll(poll, 1, 20000) == 1
    last.wait()
    for transfer in first:
        transfer.wait()


def test_what_on_done_raises_harms_nothing(pair, monkeypatch):
    source, _ = pair
    seen = queue.SimpleQueue()
    monkeypatch.setattr("sys.unraisablehook", lambda what: seen.put(str(what.exc_value)))

    def on_done(_):
        raise ValueError("mine")

    for number in range(2):
        source.transfer_with_insert(
            "target", source.content(SPEC), [number] * 16, filled(source, count=1), on_done=on_done
        )
    assert [seen.get(timeout=10) for _ in range(2)] == ["mine"] * 2


def test_what_cannot_be_sent_is_said_at_once(pair):
    source, _ = pair
    content = source.content(SPEC)
    blocks = filled(source)
    with pytest.raises(mempool.NotFound, match="nobody") as raised:
        source.transfer_with_insert("nobody", content, TOKENS, blocks)
    assert isinstance(raised.value, LookupError)
    with pytest.raises(mempool.InvalidArgument):
        source.transfer_with_insert("target", content, TOKENS, blocks[:2])
    with pytest.raises(mempool.InvalidArgument, match="deadline"):
        source.transfer_with_insert("target", content, TOKENS, blocks, deadline=-1)
    with pytest.raises(mempool.DeadlineExceeded) as raised:
        source.transfer_with_insert(
            "target", content, TOKENS, blocks, deadline=0, ready=mempool.Fence()
        ).wait(20)
    assert "goes on" not in str(raised.value)  # its own deadline, not that of the wait
    with pytest.raises(TypeError, match="on_done"):
        source.transfer_with_insert("target", content, TOKENS, blocks, on_done=5)
    with pytest.raises(TypeError):
        source.transfer_with_insert("target", content, TOKENS, blocks, no_such=1)


def test_blocks_go_into_places_that_a_peer_holds(pair):
    source, target = pair
    blocks = filled(source, 6, count=2)
    places = source.alloc(2, instance="target", deadline=10)
    source.transfer("target", blocks, places).wait()
    arrival = target.receive(5)
    assert arrival.blocks == places and len(arrival.tokens) == 0
    assert (np.asarray(target.piece(places[1], 1, 0)) == 6).all()


def test_fetch_brings_what_another_has(pair):
    source, target = pair
    content = source.content(SPEC)
    blocks = filled(target, 4, count=2)
    target.insert(content, TOKENS[:32], blocks)
    transfer = source.fetch("target", content, TOKENS)
    transfer.wait()
    serving = transfer.report().serving
    assert len(serving) == 2 and (np.asarray(source.piece(serving[1], 0, 0)) == 4).all()


def test_receive_waits_no_longer_than_asked(pool):
    with pytest.raises(mempool.DeadlineExceeded, match="nothing arrived in 0.01 s"):
        pool.receive(0.01)
    with pytest.raises(TimeoutError):
        pool.receive(timeout=0)
    with pytest.raises(mempool.InvalidArgument, match="timeout"):
        pool.receive(-1)
