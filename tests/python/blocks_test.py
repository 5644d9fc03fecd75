# SPDX-License-Identifier: Apache-2.0
"""Tests lists of addresses, tokens in every form, and what is refused of them."""
import copy
import pickle
import threading
from array import array

import mempool
import numpy as np
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
TOKENS = list(range(100, 132))


def test_blocks_are_a_sequence_of_their_addresses(pool):
    blocks = pool.alloc(5)
    assert len(blocks) == 5
    assert list(blocks) == [blocks[at] for at in range(5)]
    assert blocks[-1] == blocks[4]
    assert list(blocks[1:4:2]) == [blocks[1], blocks[3]]
    assert list(blocks[::-1]) == list(reversed(list(blocks)))
    assert blocks[:2] + blocks[2:] == blocks
    assert blocks[:2] + list(blocks[2:]) == blocks
    assert blocks != blocks[:4]
    assert blocks[2] in blocks and blocks[2] not in blocks[:2]
    with pytest.raises(IndexError):
        blocks[5]


def test_addresses_survive_being_sent_as_bytes(pool):
    blocks = pool.alloc(3)
    assert len(bytes(blocks)) == 3 * 16
    assert mempool.Blocks.from_bytes(bytes(blocks)) == blocks
    assert mempool.BlockAddress.from_bytes(bytes(blocks[1])) == blocks[1]
    assert len({*blocks, *mempool.Blocks.from_bytes(bytes(blocks))}) == 3
    assert mempool.Blocks(blocks) == blocks == mempool.Blocks(list(blocks))
    with pytest.raises(mempool.InvalidArgument, match="17 bytes"):
        mempool.Blocks.from_bytes(bytes(17))


def test_an_address_tells_its_parts(pool):
    block = pool.alloc(1)[0]
    assert block.medium is mempool.Medium.HOST
    assert block.index == pool.alloc(1).indices[0] - 1
    assert f"{block.incarnation:016x}" == pool.status()["incarnation"]
    assert isinstance(block.generation, int)


def test_a_freed_block_is_stale_to_its_old_address(pool):
    blocks = pool.alloc(2)
    pool.free(blocks)
    with pytest.raises(mempool.Stale):
        pool.free(list(blocks))
    with pytest.raises(mempool.Stale):
        pool.piece(blocks[0], 0, 0)


def test_what_is_no_address_is_a_type_error(pool):
    for wrong in ([1], 5, "blocks", [pool.alloc(1)[0], None]):
        with pytest.raises(TypeError):
            pool.free(wrong)


FORMS = {
    "list": list,
    "tuple": tuple,
    "array": lambda tokens: array("I", tokens),
    "memoryview": lambda tokens: memoryview(array("I", tokens)),
    "uint32": lambda tokens: np.array(tokens, dtype=np.uint32),
    "int32": lambda tokens: np.array(tokens, dtype=np.int32),
    "int64": lambda tokens: np.array(tokens, dtype=np.int64),
    "uint64": lambda tokens: np.array(tokens, dtype=np.uint64),
    "numpy scalars": lambda tokens: [np.int64(token) for token in tokens],
    "range": lambda tokens: range(tokens[0], tokens[-1] + 1),
    "read only": lambda tokens: _read_only(np.array(tokens, dtype=np.uint32)),
}


def _read_only(numbers):
    numbers.flags.writeable = False
    return numbers


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_tokens_of_every_form_are_the_same_prompt(pool, form):
    content = pool.content(SPEC)
    blocks = pool.alloc(2)
    pool.insert(content, TOKENS, blocks)
    assert pool.match(content, form(TOKENS)).blocks == blocks
    assert pool.match(content, form(TOKENS[1:])).tokens == 0


@pytest.mark.parametrize("bad", [-1, 2**32, 2**70, -(2**40)])
def test_a_token_out_of_range_is_named_with_its_place(pool, bad):
    content = pool.content(SPEC)
    with pytest.raises(mempool.InvalidArgument, match=f"token 3 is {bad};"):
        pool.match(content, [1, 2, 3, bad])


def test_a_token_out_of_range_is_found_in_arrays(pool):
    content = pool.content(SPEC)
    for kind, bad in ((np.int32, -5), (np.int64, 2**40), (np.int64, -5), (np.uint64, 2**63)):
        with pytest.raises(mempool.InvalidArgument, match=f"token 1 is {bad};"):
            pool.match(content, np.array([1, bad], dtype=kind))


def test_the_largest_token_is_one(pool):
    content = pool.content(SPEC)
    blocks = pool.alloc(1)
    pool.insert(content, [2**32 - 1] * 16, blocks)
    assert pool.match(content, np.full(16, 2**32 - 1, dtype=np.int64)).blocks == blocks


def test_arrays_that_are_no_row_of_tokens_are_refused(pool):
    content = pool.content(SPEC)
    for wrong, words in (
        (np.zeros((2, 16), dtype=np.uint32), "2 dimensions"),
        (np.zeros(32, dtype=np.uint32)[::2], "2 numbers apart"),
        (np.zeros(16, dtype=np.float32), "another type"),
        (b"0123", "another type"),
    ):
        with pytest.raises(mempool.InvalidArgument, match=words):
            pool.match(content, wrong)


def test_what_are_no_tokens_is_a_type_error(pool):
    content = pool.content(SPEC)
    for wrong in (None, 5, "text", [1.5], ["1"]):
        with pytest.raises(TypeError):
            pool.match(content, wrong)


def test_a_shorter_list_of_blocks_than_the_prompt_is_refused(pool):
    with pytest.raises(mempool.InvalidArgument) as raised:
        pool.insert(pool.content(SPEC), TOKENS, pool.alloc(1))
    assert raised.value.code is mempool.StatusCode.INVALID_ARGUMENT
    assert str(raised.value) == f"INVALID_ARGUMENT: {raised.value.message}"
    assert isinstance(raised.value, ValueError)


def test_a_full_pool_says_so(pool):
    with pytest.raises(mempool.ResourceExhausted):
        pool.alloc(33)
    assert pool.status()["pool"]["blocks"]["free"] == 32


def test_contents_of_one_spec_are_one_key(pool):
    content = pool.content(SPEC)
    assert content == mempool.make_content(copy.copy(SPEC))
    assert {content: 1}[mempool.make_content(SPEC)] == 1
    other = mempool.make_content(
        mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8, root=b"image")
    )
    assert other != content and other.model == content.model and len(content.id) == 32


def test_a_content_of_another_shape_is_refused_by_its_dimension(pool):
    other = mempool.ContentSpec(model="tiny", layers=3, kv_heads=4, head_size=8)
    with pytest.raises(mempool.InvalidArgument, match="layers"):
        pool.content(other)


def test_options_of_another_type_are_named():
    for fields, words in (
        ({"segment_blocks": "32"}, "segment_blocks"),
        ({"segment_blocks": [32], "name": 5}, "name"),
        ({"segment_blocks": [32], "peers": ["a"]}, "peers"),
        ({"segment_blocks": [32], "no_such_option": 1}, "no_such_option"),
        ({"segment_blocks": [32], "tenants": {"a": {"salt": "x"}}}, "TenantOptions"),
    ):
        with pytest.raises(TypeError, match=words):
            mempool.Agent.start(content=SPEC, **fields)
    with pytest.raises(TypeError, match="ContentSpec"):
        mempool.Agent.start(content="tiny", segment_blocks=[32])
    with pytest.raises(mempool.InvalidArgument, match="heartbeat"):
        mempool.Agent.start(content=SPEC, segment_blocks=[32], heartbeat=-1)


def test_erase_and_keys_are_the_same_words_as_in_cpp(pool):
    content = pool.content(SPEC)
    blocks = pool.alloc(2)
    result = pool.insert(content, TOKENS, blocks)
    assert (result.admitted, result.serving, len(result.duplicates)) == (2, blocks, 0)
    again = pool.alloc(2)
    assert pool.insert(content, TOKENS, again).duplicates == again
    pool.unpin(blocks)
    assert pool.erase(content, TOKENS) == 1
    keyed = pool.alloc(2)
    assert pool.insert_keys([b"one", "two"], keyed).serving == keyed
    assert pool.match_keys(["one", b"two", "three"]) == keyed
    assert pool.erase_keys(("two",)) == 1
    with pytest.raises(TypeError, match="key 1"):
        pool.match_keys(["one", 2])
    with pytest.raises(TypeError, match="one str"):
        pool.match_keys("one")


def test_names_of_blocks_and_contents_are_copied_and_pickled(pool):
    blocks = pool.alloc(3)
    for name in (blocks, mempool.Blocks(), blocks[1], pool.content(SPEC)):
        for same in (copy.copy(name), copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
            assert same == name and type(same) is type(name)
    with pytest.raises(TypeError):
        hash(blocks)
    assert "no block" not in blocks and blocks[1] in blocks


def test_bytes_of_no_address_are_refused():
    for read in (mempool.BlockAddress.from_bytes, mempool.Blocks.from_bytes):
        with pytest.raises(mempool.InvalidArgument, match="medium"):
            read(b"\xff" * 16)


def test_what_has_no_order_is_no_prompt(pool):
    content = pool.content(SPEC)
    for tokens in ({3, 1, 2}, {1: 2}, iter([1])):
        with pytest.raises(TypeError, match="sequence"):
            pool.match(content, tokens)
    with pytest.raises(TypeError, match="sequence"):
        pool.match_keys({"a", "b"})


def test_a_list_that_its_items_change_is_read_as_it_was(pool):
    tokens = []

    class Clears:
        def __index__(self):
            tokens.clear()
            return 1

    tokens.extend([Clears(), *range(10**6, 10**6 + 5000)])
    content = pool.content(SPEC)
    assert pool.match(content, tokens).tokens == 0 and not tokens


def test_keys_that_another_thread_takes_away_are_read_as_they_were(pool):
    block = pool.alloc(1)
    keys = []
    go, gone = threading.Semaphore(0), threading.Semaphore(0)

    def clear():
        while go.acquire() and keys:
            keys.clear()
            gone.release()

    clearing = threading.Thread(target=clear)
    clearing.start()
    for turn in range(10):
        keys.extend(f"{turn:0200}{number}" for number in range(60000))
        go.release()
        with pytest.raises(mempool.InvalidArgument):
            pool.insert_keys(keys, block)
        gone.acquire()
    go.release()
    clearing.join()


def test_the_blocks_that_verify_picks_are_those_whose_bytes_are_checked(start):
    pool = start(segment_blocks=[1024], verify="sampled")
    blocks = pool.alloc(1024)
    pool.insert_keys([str(number) for number in range(1024)], blocks)  # each by itself
    checked = set()
    for block in blocks:
        piece = memoryview(pool.piece(block, 0, 0)).cast("B")
        piece[0] ^= 1
        try:
            pool.read(block)
        except mempool.Corruption:
            checked.add(block)
    assert 0 < len(checked) < 64
    assert checked == {block for block in blocks if mempool.picks("sampled", block)}
    assert all(mempool.picks("always", block) for block in blocks)
    assert not any(mempool.picks("off", block) for block in blocks)
    with pytest.raises(mempool.InvalidArgument, match="often"):
        mempool.picks("often", blocks[0])
