# SPDX-License-Identifier: Apache-2.0
"""Tests life in one process with others' libraries, in an interpreter that has them."""
import importlib.util
import subprocess
import sys

import mempool
import pytest

SPEC = mempool.ContentSpec(
    model="tiny", layers=2, kv_heads=4, head_size=8, element=mempool.ElementType.BFLOAT16
)

EXCHANGE = """
spec = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
with mempool.Agent.start(content=spec, segment_blocks=[8], name="target") as target:
    with mempool.Agent.start(content=spec, segment_blocks=[8], name="source",
                             peers={"target": target.listen}) as source:
        content = source.content(spec)
        source.transfer_with_insert("target", content, [1] * 16, source.alloc(1)).wait()
        assert target.match(content, [1] * 16).tokens == 16
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("other", ["torch", "nixl", "vllm"])
def test_it_works_in_one_process_with(other, first):
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed in {sys.prefix}")
    theirs = "import nixl._api" if other == "nixl" else f"import {other}"
    imports = [theirs, "import mempool"] if first else ["import mempool", theirs]
    run("\n".join(imports) + EXCHANGE)


def test_torch_has_the_true_dtype(start):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pool = start(content=SPEC)
    block = pool.alloc(1)[0]
    piece = torch.from_dlpack(pool.piece(block, 0, 0))
    assert piece.dtype == torch.bfloat16 and piece.shape == (16, 4, 8)
    piece[:] = 1.5
    assert (torch.from_dlpack(pool.segment())[block.index, 0, 0] == 1.5).all()


def test_tensors_of_torch_are_adopted(start):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pool = start(content=SPEC)
    kv = torch.zeros((2, 2, 6, 16, 4, 8), dtype=torch.bfloat16).permute(2, 0, 1, 3, 4, 5)
    pool.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
    torch.from_dlpack(pool.piece(pool.claim("kv", [3])[0], 1, 1))[:] = 2
    assert (kv[3, 1, 1] == 2).all() and kv.sum() == 2 * 512
    with pytest.raises(mempool.InvalidArgument, match="dtype"):
        pool.adopt("other", [mempool.AdoptedMemory.of(kv.half())], blocks=6)


def test_tensors_of_torch_are_tokens(start):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    pool = start(content=SPEC)
    content = pool.content(SPEC)
    tokens = torch.arange(32, dtype=torch.int64)
    blocks = pool.alloc(2)
    pool.insert(content, tokens, blocks)
    assert pool.match(content, tokens.to(torch.int32)).blocks == blocks
    with pytest.raises(mempool.InvalidArgument, match="2 numbers apart"):
        pool.match(content, tokens[::2])
