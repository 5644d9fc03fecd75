# SPDX-License-Identifier: Apache-2.0
"""Tests blocks as arrays, and tensors of an engine's own as blocks."""
import ctypes
import dataclasses
import gc
import weakref

import mempool
import numpy as np
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
HEADS_FIRST = mempool.Placement(order=mempool.TokenOrder.HEAD_TOKEN)
DTYPES = {
    mempool.ElementType.FLOAT32: np.float32,
    mempool.ElementType.FLOAT16: np.float16,
    mempool.ElementType.BFLOAT16: np.uint16,
    mempool.ElementType.FLOAT8_E4M3: np.uint8,
    mempool.ElementType.FLOAT8_E5M2: np.uint8,
    mempool.ElementType.INT8: np.int8,
}


def test_a_piece_is_the_blocks_own_memory(pool):
    block = pool.alloc(1)[0]
    piece = np.asarray(pool.piece(block, 1, 0))
    assert piece.shape == (16, 4, 8) and piece.dtype == np.float16
    piece[:] = np.arange(16 * 4 * 8).reshape(piece.shape)
    assert np.array_equal(np.asarray(pool.piece(block, 1, 0)), piece)
    assert not np.asarray(pool.piece(block, 0, 0)).any()
    with pytest.raises(mempool.InvalidArgument):
        pool.piece(block, 2, 0)


@pytest.mark.parametrize("form", mempool.BlockForm, ids=lambda form: form.name)
@pytest.mark.parametrize("order", mempool.TokenOrder, ids=lambda order: order.name)
def test_a_segment_has_each_piece_where_the_pool_has_it(start, form, order):
    pool = start(placement=mempool.Placement(form=form, order=order), shards=2,
                 segment_blocks=[8, 4])
    assert pool.segments == 2 and pool.shards == 2
    blocks = pool.alloc(12)
    for number, block in enumerate(blocks):
        for layer, part, shard in np.ndindex(2, 2, 2):
            np.asarray(pool.piece(block, layer, part, shard))[:] = (
                number * 8 + layer * 4 + part * 2 + shard
            )
    outer, inner = (16, 2) if order is mempool.TokenOrder.TOKEN_HEAD else (2, 16)
    for number, block in enumerate(blocks):
        segment, row = pool.segment_of(block)
        for layer, part, shard in np.ndindex(2, 2, 2):
            array = np.asarray(pool.segment(segment, shard))
            assert array.shape == ((8, 4)[segment], 2, 2, outer, inner, 8)
            assert (array[row, layer, part] == number * 8 + layer * 4 + part * 2 + shard).all()
    with pytest.raises(mempool.NotFound):
        pool.segment(2)
    with pytest.raises(mempool.NotFound):
        pool.segment(0, 2)


@pytest.mark.parametrize("element", DTYPES, ids=lambda element: element.name)
def test_elements_have_the_dtype_that_numpy_knows(start, element):
    pool = start(content=dataclasses.replace(SPEC, element=element))
    view = pool.piece(pool.alloc(1)[0], 0, 0)
    assert np.asarray(view).dtype == DTYPES[element]
    assert view.element is element and view.shape == (16, 4, 8)
    assert view.nbytes == np.asarray(view).nbytes == pool.layout().piece_bytes


def test_mla_has_one_part_and_one_head(start):
    pool = start(content=mempool.ContentSpec(model="mla", layers=2, kv_heads=1, mla_rank=24))
    assert np.asarray(pool.segment()).shape == (32, 2, 1, 16, 1, 24)


def test_a_piece_is_contiguous_and_a_discrete_segment_is_not(pool):
    assert memoryview(pool.piece(pool.alloc(1)[0], 0, 0)).c_contiguous
    assert memoryview(bytes(pool.piece(pool.alloc(1)[0], 0, 0))).nbytes == 1024
    view = pool.segment()
    assert not memoryview(view).c_contiguous
    assert memoryview(view).strides == view.strides
    with pytest.raises(BufferError):
        np.frombuffer(view, dtype=np.float16)


def test_a_buffer_is_given_as_asked_or_not_at_all(pool):
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
    release = ctypes.pythonapi.PyBuffer_Release
    release.argtypes = [ctypes.c_void_p]
    nd, strides, c, fortran, either = 0x8, 0x18, 0x38, 0x58, 0x98  # PyBUF_ of these names
    buffer = ctypes.create_string_buffer(128)
    piece, segment = pool.piece(pool.alloc(1)[0], 0, 0), pool.segment()
    for view, flags in ((piece, fortran), (segment, nd), (segment, c), (segment, fortran),
                        (segment, either), (mempool.ArrayView.__new__(mempool.ArrayView), nd)):
        with pytest.raises(BufferError):
            get(view, buffer, flags)
    for view, flags in ((piece, nd), (piece, c), (piece, either), (segment, strides)):
        assert get(view, buffer, flags) == 0
        release(buffer)


def test_dlpack_shares_the_memory(pool):
    block = pool.alloc(1)[0]
    array = np.from_dlpack(pool.piece(block, 0, 1))
    np.asarray(pool.piece(block, 0, 1))[3, 2, 1] = 5
    assert array[3, 2, 1] == 5
    assert pool.piece(block, 0, 1).__dlpack_device__() == (1, 0)


def test_a_sealed_block_is_read_as_bytes(pool):
    block = pool.alloc(1)
    for layer, part in np.ndindex(2, 2):
        np.asarray(pool.piece(block[0], layer, part))[:] = layer * 2 + part
    pool.insert(pool.content(SPEC), [1] * 16, block)
    expected = np.repeat(np.arange(4, dtype=np.float16), 512)
    assert pool.read(block[0]) == expected.tobytes()
    into = np.empty(2048, dtype=np.float16)
    assert pool.read(block[0], into) is None and np.array_equal(into, expected)
    with pytest.raises(mempool.InvalidArgument):
        pool.read(block[0], bytearray(100))
    with pytest.raises(BufferError):
        pool.read(block[0], bytes(pool.layout().block_bytes))


def test_a_buffer_that_was_refused_is_the_callers_again(pool):
    out = bytearray(pool.layout().block_bytes)
    block = pool.alloc(1)[0]
    pool.close()
    with pytest.raises(mempool.Unavailable):
        pool.read(block, out)
    out.append(1)


def test_a_block_of_others_has_no_row_here(pair):
    source, _ = pair
    theirs = source.alloc(1, instance="target")[0]
    freed = source.alloc(1)
    source.free(freed)
    for block in (theirs, freed[0]):
        with pytest.raises(mempool.Stale):
            source.segment_of(block)


def test_views_keep_the_memory_past_the_pools_end(start):
    pool = start()
    piece = np.asarray(pool.piece(pool.alloc(1)[0], 0, 0))
    segment = np.asarray(pool.segment())
    piece[:] = 7
    pool.close()
    del pool
    gc.collect()
    assert (piece == 7).all() and (segment[0, 0, 0] == 7).all()
    piece[:] = 8
    assert (segment[0, 0, 0] == 8).all()


# ---- adopted ---------------------------------------------------------------------------------


def tensor(blocks=6, order=(0, 1, 2), dtype=np.float16, piece=(16, 4, 8)):
    """A tensor of shape (blocks, 2, 2) + piece whose first axes lie in memory in this order."""
    shape = [(blocks, 2, 2)[axis] for axis in order]
    return np.zeros((*shape, *piece), dtype=dtype).transpose(*np.argsort(order), 3, 4, 5)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0), (1, 0, 2)])
def test_a_tensor_of_any_order_of_blocks_is_adopted(pool, order):
    kv = tensor(order=order)
    pool.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
    blocks = pool.claim("kv", [4, 1])
    np.asarray(pool.piece(blocks[1], 1, 0))[:] = 9
    assert (kv[1, 1, 0] == 9).all() and kv.sum() == 9 * 512
    segment, row = pool.segment_of(blocks[0])
    assert row == 4 and np.shares_memory(np.asarray(pool.segment(segment)), kv)
    pool.unpin(blocks)
    pool.withdraw("kv")


def test_adopted_blocks_are_inserted_as_copies(pool):
    kv = tensor()
    kv[2] = 3
    pool.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
    content = pool.content(SPEC)
    blocks = pool.claim("kv", np.array([2], dtype=np.uint32))
    assert pool.insert(content, [1] * 16, blocks).duplicates == blocks
    kv[2] = 0
    found = pool.match(content, [1] * 16).blocks
    assert (np.asarray(pool.piece(found[0], 1, 1)) == 3).all()


@pytest.mark.parametrize("end", [lambda pool: pool.withdraw("kv"), lambda pool: pool.close()])
def test_an_adopted_tensor_is_kept_as_long_as_it_is_used(pool, end):
    kv = tensor()
    alive = weakref.ref(kv)
    pool.adopt("kv", [mempool.AdoptedMemory.of(kv)], blocks=6)
    del kv
    gc.collect()
    assert alive() is not None
    blocks = pool.claim("kv", [0])
    view = np.asarray(pool.piece(blocks[0], 0, 0))
    pool.unpin(blocks)
    end(pool)
    gc.collect()
    view[:] = 4
    assert (alive()[0, 0, 0] == 4).all()
    del view
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tensor(dtype=np.float32), "dtype"),
        (lambda: tensor(dtype=np.int16), "dtype"),
        (lambda: tensor(piece=(4, 16, 8)), "shape"),
        (lambda: tensor(piece=(16, 4, 16)), "shape"),
        (lambda: tensor(blocks=5), "shape"),
        (lambda: tensor(piece=(16, 4, 16))[..., ::2], "axis 5"),
        (lambda: tensor(piece=(4, 16, 8)).swapaxes(3, 4), "axis 4"),
        (lambda: tensor()[::-1], "axis 0"),
        (lambda: tensor()[0], "5 axes"),
    ],
)
def test_tensors_that_are_no_blocks_are_refused(pool, make, words):
    with pytest.raises(mempool.InvalidArgument, match=words):
        pool.adopt("kv", [mempool.AdoptedMemory.of(make())], blocks=6)
    assert pool.status()["adopted"] == []


def test_adopted_memory_cannot_be_resized(pool):
    kv = bytearray(6 * 4096)
    pool.adopt("kv", [mempool.AdoptedMemory(kv, 4096, 2048, 1024)], blocks=6)
    with pytest.raises(BufferError):
        kv.extend(b"more")
    pool.withdraw("kv")
    kv.extend(b"more")


def test_what_a_wrapper_makes_is_kept_as_long_as_it_is_adopted(pool):
    made = []

    class Wrapper:
        def __dlpack__(self, **_):
            kv = tensor()
            made.append(weakref.ref(kv))
            return kv.__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    pool.adopt("kv", [mempool.AdoptedMemory.of(Wrapper())], blocks=6)
    gc.collect()
    blocks = pool.claim("kv", [1])
    np.asarray(pool.piece(blocks[0], 0, 1))[:] = 3
    assert (made[-1]()[1, 0, 1] == 3).all()
    pool.unpin(blocks)
    pool.withdraw("kv")
    gc.collect()
    assert made[-1]() is None


def test_bare_memory_is_adopted_by_its_strides(pool):
    kv = bytearray(6 * 4096)
    strides = {"block_stride": 4096, "layer_stride": 2048, "part_stride": 1024}
    pool.adopt("kv", [mempool.AdoptedMemory(kv, **strides)], blocks=6)
    np.asarray(pool.piece(pool.claim("kv", [1])[0], 0, 0))[:] = 1
    assert any(kv[4096:5120]) and not any(kv[:4096]) and not any(kv[5120:])
    with pytest.raises(mempool.AlreadyExists):
        pool.adopt("kv", [mempool.AdoptedMemory(bytearray(6 * 4096), **strides)], blocks=6)
    with pytest.raises(mempool.InvalidArgument, match="block_stride"):
        pool.adopt("more", [mempool.AdoptedMemory(kv, **strides)], blocks=7)


def test_what_cannot_be_written_is_not_adopted(pool):
    kv = tensor()
    kv.flags.writeable = False
    for wrong in (kv, None, "kv"):
        with pytest.raises(TypeError):
            mempool.AdoptedMemory.of(wrong)
    with pytest.raises(mempool.InvalidArgument, match="axis 1"):
        mempool.AdoptedMemory(np.zeros((8, 8))[:, ::2], 8, 8, 8)


def test_a_claim_of_no_adopted_block_is_refused(pool):
    pool.adopt("kv", [mempool.AdoptedMemory.of(tensor())], blocks=6)
    with pytest.raises(mempool.InvalidArgument):
        pool.claim("kv", [6])
    with pytest.raises(mempool.InvalidArgument, match="block 0 is -1"):
        pool.claim("kv", [-1])
    with pytest.raises(mempool.NotFound):
        pool.claim("other", [0])
