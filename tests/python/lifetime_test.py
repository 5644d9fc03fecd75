# SPDX-License-Identifier: Apache-2.0
"""Tests the ends of pools: by close(), amid calls of other threads, in forks and at exit."""
import contextlib
import gc
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from array import array

import mempool
import numpy as np
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)

PROGRAM = """
import os, sys, threading, mempool
spec = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
def start(**fields):
    return mempool.Agent.start(content=spec, segment_blocks=[32], **fields)
target = start(name="target")
source = start(name="source", peers={"target": target.listen})
content = source.content(spec)
"""


def run(program):
    """Run a program of the two agents, which has to end by itself and well."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_closed_pool_says_so(start):
    pool = start()
    block = pool.alloc(1)[0]
    content = pool.content(SPEC)
    assert not pool.closed
    pool.close()
    pool.close()
    assert pool.closed and pool.name == "agent"
    for call in (
        lambda: pool.alloc(1), lambda: pool.match(content, [1]), lambda: pool.receive(0),
        lambda: pool.piece(block, 0, 0), lambda: pool.segment(), lambda: pool.status(),
        lambda: pool.shards, lambda: pool.add_peer("a", "b:1"),
    ):
        with pytest.raises(mempool.Unavailable, match="closed"):
            call()


def wait_until_it_polls(thread):
    """Wait until a thread is in poll(), as the kernel shows it."""
    for _ in range(10000):
        if "poll" in pathlib.Path(f"/proc/self/task/{thread.native_id}/wchan").read_text():
            return
        time.sleep(0.001)
    raise AssertionError("the thread never waited")


def test_close_wakes_those_that_wait_for_an_arrival(start):
    pool = start()
    errors = []

    def wait():
        with pytest.raises(mempool.Error) as raised:
            pool.receive()
        errors.append(raised.value)

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
        wait_until_it_polls(thread)
    pool.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [mempool.Unavailable] * 2


def test_close_ends_open_transfers_and_their_callables_hear_of_it(pair):
    source, _ = pair
    heard = queue.SimpleQueue()
    blocks = source.alloc(8)
    transfers = [
        source.transfer_with_insert(
            "target", source.content(SPEC), [number] * 16, blocks[number : number + 1],
            ready=mempool.Fence(), on_done=heard.put,
        )
        for number in range(8)
    ]
    source.close()
    for transfer in transfers:
        with pytest.raises(mempool.Cancelled):
            transfer.wait()
        assert isinstance(heard.get(timeout=10), mempool.Cancelled)


def test_close_ends_calls_that_wait_for_others(pool):
    kv = np.zeros((6, 2, 2, 16, 4, 8), dtype=np.float16)
    pool.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
    pool.claim("kv", [0])
    raised = []

    def withdraw():
        with pytest.raises(mempool.Cancelled) as error:
            pool.withdraw("kv", timeout=3600)
        raised.append(error)

    waiting = threading.Thread(target=withdraw)
    waiting.start()
    for _ in range(10000):  # until the memory is being let go of
        try:
            pool.free(pool.claim("kv", [1]))
        except mempool.Error:
            break
        time.sleep(0.001)
    pool.close()
    waiting.join()
    assert raised


def test_a_pool_that_a_callback_lets_go_of_last_ends_all_the_same(start):
    target = start(name="target")
    pools = [mempool.Agent.start(content=SPEC, segment_blocks=[32], name="source",
                                 peers={"target": target.listen})]
    gone = threading.Event()
    weakref.finalize(pools[0], gone.set)
    let_go = threading.Event()

    def on_done(_):
        let_go.wait()
        pools.clear()

    source = pools[0]
    transfer = source.transfer_with_insert(
        "target", source.content(SPEC), [1] * 16, source.alloc(1), on_done=on_done
    )
    del source, transfer
    let_go.set()
    assert gone.wait(10)
    start(name="another")  # the interpreter goes on, and ends it on the way


def test_a_pool_that_a_callable_holds_last_ends_all_the_same():
    assert run("""
import gc, weakref
ended = threading.Event()
def send():
    gone = threading.Event()
    weakref.finalize(source, ended.set)
    source.transfer_with_insert("target", content, [1] * 16, source.alloc(1),
                                on_done=lambda error, source=source: gone.wait(20))
    return gone
gone = send()
del source
gone.set()
print(ended.wait(10))
""") == ["True"]


def test_a_fork_is_refused_clearly_and_its_end_harms_nobody(pair):
    source, target = pair
    content = source.content(SPEC)
    blocks = source.alloc(2)
    view = source.piece(blocks[0], 0, 0)
    transfer = source.transfer_with_insert("target", content, [1] * 32, blocks)
    transfer.wait()
    ready = mempool.Fence()
    later = source.transfer_with_insert("target", content, [2] * 16, source.alloc(1), ready=ready)
    child = os.fork()
    if child == 0:
        refused = 0
        calls = (
            lambda: source.alloc(1), lambda: source.match(content, [1]), transfer.wait,
            lambda: source.receive(0), lambda: source.piece(blocks[0], 0, 0), source.status,
            lambda: source.erase(content, [1] * 16), lambda: source.shards, transfer.report,
            transfer.done, transfer.cancel, transfer.fileno, later.commit,
        )
        for call in calls:
            try:
                call()
            except mempool.Unavailable as error:
                refused += "fork" in str(error)
        ready.signal()
        source.close()
        del view, source, target, transfer, later
        gc.collect()
        os._exit(refused - len(calls))
    assert os.waitpid(child, 0)[1] == 0
    assert target.receive(5).tokens.tolist() == [1] * 32
    assert not later.done()
    ready.signal()
    later.wait()
    np.asarray(view)[:] = 5
    assert (np.asarray(source.piece(blocks[0], 0, 0)) == 5).all()


def test_a_fork_may_have_an_agent_of_its_own(pool):
    child = os.fork()
    if child == 0:
        with mempool.Agent.start(content=SPEC, segment_blocks=[4]) as own:
            ended = len(own.alloc(4)) - 4
        mempool._mempool._end_callbacks()
        os._exit(ended)
    assert os.waitpid(child, 0)[1] == 0
    assert len(pool.alloc(32)) == 32


def test_a_fork_amid_a_callback_may_end(pair):
    source, _ = pair
    inside, leave = threading.Event(), threading.Event()

    def on_done(_):
        inside.set()
        leave.wait()

    source.transfer_with_insert("target", source.content(SPEC), [1] * 16, source.alloc(1),
                                on_done=on_done)
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends it where it hangs
        mempool._mempool._end_callbacks()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()


def test_a_program_may_end_with_everything_open():
    assert run("""
def on_done(error):
    print(isinstance(error, mempool.Error))
blocks = source.alloc(8)
open_ones = [
    source.transfer_with_insert("target", content, [at] * 16, blocks[at:at + 1],
                                ready=mempool.Fence(), on_done=on_done)
    for at in range(8)
]
kept = source.segment()
threading.excepthook = lambda what: None  # the pool is closed while it waits
threading.Thread(target=target.receive, daemon=True).start()
""") == ["True"] * 8


def test_a_program_may_end_while_callbacks_run():
    run("""
blocks = source.alloc(32)
def again(error):
    if not error:
        source.transfer_with_insert("target", content, [1] * 16, blocks[:1], on_done=again)
sys.unraisablehook = lambda what: None  # the pool is closed amid them
again(None)
for _ in range(50):
    target.unpin(target.receive(10).blocks)
""")


def test_no_callable_is_called_once_the_program_ends():
    assert run("""
import atexit
def after():
    with start(name="target") as target:
        with start(name="source", peers={"target": target.listen}) as source:
            source.transfer_with_insert("target", content, [1] * 16, source.alloc(1),
                                        on_done=lambda error: print("called")).wait()
atexit.unregister(mempool._end)
atexit.register(after)
atexit.register(mempool._end)
""") == []


def test_a_fork_of_a_program_that_ends_by_itself_ends():
    assert run("""
child = os.fork()
if child == 0:
    sys.exit(0)
print(os.waitpid(child, 0)[1], len(source.alloc(32)))
""") == ["0 32"]


def test_an_interrupt_reaches_who_waits(pool):
    class Interrupt(Exception):
        pass

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupt):
            pool.receive()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pool.alloc(1)


def test_other_threads_run_while_one_waits(pair):
    source, target = pair
    got = []
    waiting = threading.Thread(target=lambda: got.append(target.receive()))
    waiting.start()
    source.transfer_with_insert("target", source.content(SPEC), [1] * 16, source.alloc(1)).wait()
    waiting.join()
    assert got[0].tokens.tolist() == [1] * 16


@pytest.mark.parametrize("call", [
    lambda pool, content, tokens, blocks, keys: pool.insert(content, tokens, blocks),
    lambda pool, content, tokens, blocks, keys: pool.erase(content, tokens),
    lambda pool, content, tokens, blocks, keys: pool.read(blocks[0]),
    lambda pool, content, tokens, blocks, keys: pool.insert_keys(keys, blocks),
    lambda pool, content, tokens, blocks, keys: pool.match_keys(keys[1:]),
    lambda pool, content, tokens, blocks, keys: pool.erase_keys(keys[1:]),
    lambda pool, content, tokens, blocks, keys: pool.transfer_with_insert(
        "nobody", content, tokens, blocks),
], ids=["insert", "erase", "read", "insert_keys", "match_keys", "erase_keys", "transfer"])
def test_other_threads_run_during_a_call_that_hashes_or_copies(pool, call):
    blocks = pool.alloc(16)
    arguments = (pool.content(SPEC), array("I", range(256)), blocks,
                 [str(number) for number in range(16)])
    begin, ran = threading.Lock(), []
    begin.acquire()

    def note():
        begin.acquire()
        ran.append(True)

    other = threading.Thread(target=note)
    before = sys.getswitchinterval()
    other.start()
    sys.setswitchinterval(1000)  # nobody gets the interpreter that is not given it
    try:
        begin.release()
        for _ in range(100000):
            with contextlib.suppress(mempool.Error):
                call(pool, *arguments)
            if ran:
                break
        assert ran
    finally:
        sys.setswitchinterval(before)
        other.join()


def test_threads_share_a_pool(pool):
    content = pool.content(SPEC)

    def work(number):
        for turn in range(200):
            blocks = pool.alloc(2)
            pool.insert(content, [number * 1000 + turn] * 32, blocks)
            found = pool.match(content, [number * 1000 + turn] * 32)
            assert found.blocks == blocks
            pool.unpin(found.blocks + blocks)

    failures = []
    threading.excepthook, before = lambda what: failures.append(what), threading.excepthook
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.excepthook = before
    assert not failures
    assert pool.status()["audit"] == "ok"
