# SPDX-License-Identifier: Apache-2.0
"""Tests an engine of another process: what it shares with its agent, and what ends with it."""
import asyncio
import fcntl
import mmap
import os
import subprocess
import sys

import mempool
import numpy as np
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)

ENGINE = """
import sys, mempool, numpy as np
spec = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
pool = mempool.attach(sys.argv[1])
blocks = pool.alloc(2)
"""


def run(socket, program, code=0):
    done = subprocess.run([sys.executable, "-c", ENGINE + program, str(socket)],
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


@pytest.fixture
def socket(tmp_path):
    return tmp_path / "engine"


@pytest.fixture
def agent(start, socket):
    return start(engine_socket=str(socket))


def free_blocks(agent):
    return agent.status()["pool"]["blocks"]["free"]


def test_what_an_engine_inserts_its_agent_has(agent, socket):
    run(socket, """
assert isinstance(pool, mempool.AttachedPool)
np.asarray(pool.segment())[pool.segment_of(blocks[1])[1], 1, 0] = 5
pool.insert(pool.content(spec), list(range(32)), blocks)
pool.close()
""")
    found = agent.match(agent.content(SPEC), list(range(32)))
    assert found.tokens == 32
    assert (np.asarray(agent.piece(found.blocks[1], 1, 0)) == 5).all()


def test_both_write_to_the_same_memory(agent, socket):
    with mempool.attach(str(socket)) as pool:
        block = pool.alloc(1)[0]
        np.asarray(pool.piece(block, 0, 1))[:] = 3
        assert (np.asarray(agent.segment())[block.index, 0, 1] == 3).all()
        assert pool.layout().block_bytes == agent.layout().block_bytes


def test_an_engine_that_is_killed_gives_its_blocks_back(agent, socket):
    run(socket, "import os, signal; pool.alloc(30); os.kill(os.getpid(), signal.SIGKILL)", -9)
    for _ in range(1000):  # the agent's thread hears of it; a call of another lets it run
        if free_blocks(agent) == 32:
            break
        with pytest.raises(mempool.DeadlineExceeded):
            agent.receive(0.01)
    assert free_blocks(agent) == 32


def test_blocks_that_an_array_may_write_to_are_not_given_away(agent, socket):
    pool = mempool.attach(str(socket))
    array = np.asarray(pool.piece(pool.alloc(1)[0], 0, 0))
    pool.close()
    assert free_blocks(agent) == 31
    array[:] = 1
    del array
    for _ in range(1000):
        if free_blocks(agent) == 32:
            break
        with pytest.raises(mempool.DeadlineExceeded):
            agent.receive(0.01)
    assert free_blocks(agent) == 32


def test_an_array_of_what_the_agent_gave_back_stays_mapped(agent, socket):
    run(socket, """
import fcntl, mmap, os
memory = os.memfd_create("kv", os.MFD_ALLOW_SEALING)
os.ftruncate(memory, 4 * 4096)
fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
kv = mempool.AdoptedMemory(mmap.mmap(memory, 4 * 4096), 4096, 2048, 1024, memory)
pool.adopt("kv", [kv], blocks=4)
array = np.asarray(pool.segment(1))
array[:] = 1
pool.withdraw("kv")
assert pool.segments == 1
assert (array == 1).all()
""")


def test_close_ends_what_waits_also_where_an_array_is_left(start, socket):
    target = start(name="target")
    start(name="source", peers={"target": target.listen}, engine_socket=str(socket))
    pool = mempool.attach(str(socket))
    array = np.asarray(pool.segment())
    transfer = pool.transfer_with_insert("target", pool.content(SPEC), [1] * 16, pool.alloc(1),
                                         ready=mempool.Fence())

    async def wait():
        arrival = asyncio.ensure_future(pool.arrival())
        await asyncio.sleep(0)
        pool.close()
        with pytest.raises(mempool.Unavailable, match="closed"):
            await arrival
        with pytest.raises(mempool.Cancelled):
            await transfer

    asyncio.run(wait())
    array[:] = 1


def test_a_program_may_end_with_an_array_left(start, socket):
    target = start(name="target")
    start(name="source", peers={"target": target.listen}, engine_socket=str(socket))
    assert run(socket, """
array = np.asarray(pool.segment())  # keeps the pool attached
transfer = pool.transfer_with_insert("target", pool.content(spec), [1] * 32, blocks,
                                     ready=mempool.Fence(), on_done=lambda error: print(error.code))
""") == "StatusCode.CANCELLED\n"


def test_a_rank_adopts_what_lies_behind_its_descriptor(agent, socket):
    memory = os.memfd_create("kv", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4 * 4096)
    with mempool.attach(str(socket)) as pool, mmap.mmap(memory, 4 * 4096) as mapped:
        strides = {"block_stride": 4096, "layer_stride": 2048, "part_stride": 1024}
        with pytest.raises(mempool.PermissionDenied):
            kv = mempool.AdoptedMemory(mapped, **strides, descriptor=memory)
            pool.adopt("kv", [kv], blocks=4)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        pool.adopt("kv", [kv], blocks=4)
        blocks = pool.claim("kv", [2])
        np.asarray(pool.piece(blocks[0], 0, 0))[:] = 6
        assert any(mapped[2 * 4096 : 2 * 4096 + 1024])
        content = pool.content(SPEC)
        assert pool.insert(content, [1] * 16, blocks).duplicates == blocks
        found = agent.match(agent.content(SPEC), [1] * 16)
        assert (np.asarray(agent.piece(found.blocks[0], 0, 0)) == 6).all()
        pool.unpin(blocks)
        pool.withdraw("kv")
        del kv
    os.close(memory)


def test_two_engines_for_one_shard_are_refused(agent, socket):
    with mempool.attach(str(socket)):
        with pytest.raises(mempool.AlreadyExists):
            mempool.attach(str(socket))


def test_ranks_and_placements_that_are_not_the_agents_are_refused(agent, socket):
    with pytest.raises(mempool.InvalidArgument):
        mempool.attach(str(socket), shard=0, shards=2)
    heads_first = mempool.Placement(order=mempool.TokenOrder.HEAD_TOKEN)
    with pytest.raises(mempool.InvalidArgument):
        mempool.attach(str(socket), placement=heads_first)
    with pytest.raises(TypeError, match="Placement"):
        mempool.attach(str(socket), placement="heads")


def test_nobody_there_is_unavailable(tmp_path):
    with pytest.raises(mempool.Unavailable):
        mempool.attach(str(tmp_path / "nobody"))


def test_an_engine_whose_agent_has_gone_is_told(start, socket):
    agent = start(engine_socket=str(socket))
    with mempool.attach(str(socket)) as pool:
        content = pool.content(SPEC)
        agent.close()
        with pytest.raises(mempool.Unavailable):
            pool.alloc(1)
        assert pool.match(content, [1] * 16).tokens == 0


def test_arrivals_go_to_the_engine(start, socket):
    target = start(name="target", engine_socket=str(socket))
    source = start(name="source", peers={"target": target.listen})
    with mempool.attach(str(socket)) as pool:
        source.transfer_with_insert(
            "target", source.content(SPEC), [1] * 16, source.alloc(1)
        ).wait()
        arrival = pool.receive(10)
        assert arrival.tokens.tolist() == [1] * 16
        pool.unpin(arrival.blocks)
