# SPDX-License-Identifier: Apache-2.0
"""Runs MempoolStorage through the real SGLang's storage factory, over a host pool of ours."""

import pytest

try:
    import torch
    from sglang.srt.mem_cache.hicache_storage import (
        HiCacheStorage,
        HiCacheStorageConfig,
        PoolName,
    )
    from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory
except ImportError as error:
    pytest.skip(f"sglang cannot be imported ({error}); `scripts/test.sh --vllm` installs it",
                allow_module_level=True)

import mempool  # noqa: E402

LAYERS, HEADS, SIZE, PAGE, PAGES = 3, 2, 8, 16, 8


class HostPool:
    """Pages in host memory as SGLang's MHA pool lays them out, with what a storage asks of it."""

    layer_num, page_size, dtype = LAYERS, PAGE, torch.float16

    def __init__(self, layout: str) -> None:
        self.layout = layout
        tokens = PAGES * PAGE
        dims = ((2, LAYERS, tokens, HEADS, SIZE) if layout == "layer_first"
                else (2, tokens, LAYERS, HEADS, SIZE))
        self.buffer = torch.zeros(dims, dtype=self.dtype)

    def page(self, at: int) -> torch.Tensor:
        tokens = slice(at * PAGE, (at + 1) * PAGE)
        return self.buffer[:, :, tokens] if self.layout == "layer_first" else self.buffer[:, tokens]

    def get_page_buffer_meta(self, indices):
        pages = [self.page(at // PAGE) for at in indices.tolist()[::PAGE]]
        if self.layout == "layer_first":
            runs = [page[part, layer] for page in pages
                    for layer in range(LAYERS) for part in range(2)]
        else:
            runs = [page[part] for page in pages for part in range(2)]
        assert all(run.is_contiguous() for run in runs)
        return [run.data_ptr() for run in runs], [run.nbytes for run in runs]


def make_storage(host, *, config=None, **extra) -> HiCacheStorage:
    settings = {"backend_name": "mempool", "module_path": "mempool.sglang_storage",
                "class_name": "MempoolStorage", "interface_v1": 1,
                "agent": {"listen": "127.0.0.1:0"}, **extra}
    fields = dict(tp_rank=0, tp_size=1, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1,
                  is_mla_model=False, enable_storage_metrics=False, is_page_first_layout=True,
                  model_name="org/model", extra_config=settings)
    storage = StorageBackendFactory.create_backend(
        "dynamic", HiCacheStorageConfig(**{**fields, **(config or {})}), host)
    storage.register_mem_pool_host(host)
    return storage


@pytest.fixture(params=["layer_first", "page_first"])
def host(request):
    pool = HostPool(request.param)
    for at in range(PAGES):
        page = pool.page(at)
        page.copy_(torch.arange(page.numel()).reshape(page.shape) % 1999 + at)
    return pool


@pytest.fixture
def storage(host):
    one = make_storage(host, pages=6)
    yield one
    one.close()


def pins(storage) -> int:
    return storage._pool.status()["pool"]["pins"]


def indices(*pages: int) -> torch.Tensor:
    return torch.cat([torch.arange(page * PAGE, (page + 1) * PAGE) for page in pages])


def test_pages_come_back_with_the_same_bytes(host, storage):
    wanted = host.buffer.clone()
    assert storage.batch_set_v1(["a", "b", "c"], indices(0, 3, 5)) == [True] * 3
    host.buffer.zero_()
    assert storage.batch_get_v1(["a", "b", "c"], indices(0, 3, 5)) == [True] * 3
    for at in (0, 3, 5):
        taken, held = host.page(at), (wanted[:, :, at * PAGE:(at + 1) * PAGE]
                                      if host.layout == "layer_first"
                                      else wanted[:, at * PAGE:(at + 1) * PAGE])
        assert torch.equal(taken, held)
    assert not host.page(1).any()
    assert pins(storage) == 0


def test_only_leading_keys_count(storage):
    storage.batch_set_v1(["a", "b", "d"], indices(0, 1, 2))
    assert storage.batch_exists(["a", "b", "c", "d"]) == 2
    assert storage.batch_exists(["x", "a"]) == 0
    assert storage.exists("d") and not storage.exists("c")
    assert storage.batch_get_v1(["a", "c", "d"], indices(4, 5, 6)) == [True, False, False]
    assert pins(storage) == 0


def test_what_is_there_is_not_stored_twice(storage):
    storage.batch_set_v1(["a", "b"], indices(0, 1))
    assert storage.batch_set_v1(["a", "b", "c"], indices(0, 1, 2)) == [True] * 3
    assert storage._pool.status()["pool"]["blocks"]["published"] == 1 + 3  # the life's


def test_a_full_pool_makes_room_and_an_overfull_batch_is_a_miss(storage):
    for at in range(12):
        assert storage.batch_set_v1([f"k{at}"], indices(at % PAGES)) == [True]
    assert storage.batch_exists(["k11"]) == 1 and storage.batch_exists(["k0"]) == 0
    assert storage.batch_set_v1([f"n{at}" for at in range(8)], indices(*range(8))) == [False] * 8
    assert pins(storage) == 0


def test_flat_pages_go_in_and_out(host, storage):
    page = torch.arange(host.page(0).numel()).to(torch.float16)
    assert storage.set("flat", page) is True
    target = torch.zeros_like(page)
    assert storage.get("flat", target) is target
    assert torch.equal(target, page)
    assert storage.get("none", target) is None
    assert storage.batch_get(["flat", "none"], [target, target.clone()])[1] is None
    assert storage.batch_set(["x"], [page[1:]]) is False


def test_no_call_raises_or_gives_none(host, storage):
    storage.close()
    assert storage.batch_exists(["a"]) == 0
    assert storage.batch_get_v1(["a"], indices(0)) == [False]
    assert storage.batch_set_v1(["a"], indices(0)) == [False]
    assert storage.batch_set_v1(["a"], torch.arange(3)) == [False]
    assert storage.batch_set(["a"], [None]) is False
    assert storage.exists("a") is False


def spoil(storage, key: str) -> None:
    """Change one byte of a stored page."""
    with storage._named([key]) as names:
        (block,) = blocks = storage._pool.match_keys(names)
    memoryview(storage._pool.piece(block, 0, 0)).cast("B")[0] ^= 1
    storage._pool.unpin(blocks)


def test_a_page_whose_bytes_changed_is_a_miss(host):
    storage = make_storage(host, pages=6, agent={"listen": "127.0.0.1:0", "verify": "always"})
    page = torch.zeros(host.page(0).numel(), dtype=torch.float16)
    storage.batch_set_v1(["a", "b", "c"], indices(0, 1, 2))
    storage.set("flat", page)
    spoil(storage, "b")
    spoil(storage, "flat")
    host.buffer.zero_()
    assert storage.batch_get_v1(["a", "b", "c"], indices(0, 1, 2)) == [True, False, False]
    assert not host.page(1).any()
    assert storage.get("flat", page.clone()) is None
    assert pins(storage) == 0
    storage.close()


def test_nothing_stored_before_a_clear_is_held_after_it(storage):
    storage.batch_set_v1(["a"], indices(0))
    storage.clear()
    assert storage.batch_exists(["a"]) == 0
    assert storage.batch_set_v1(["a"], indices(1)) == [True]
    assert storage.batch_exists(["a"]) == 1
    assert pins(storage) == 0


def test_pools_beside_the_kv_pool_are_refused(host, storage):
    storage.register_mem_host_pool_v2(host, PoolName.KV)
    with pytest.raises(ValueError, match="speculative"):
        storage.register_mem_host_pool_v2(host, PoolName.MAMBA)


def test_a_second_host_pool_takes_the_place_of_the_first(host, storage):
    first = storage._pool
    storage.register_mem_pool_host(host)
    assert first.closed and not storage._pool.closed


def test_settings_that_cannot_work_are_refused(host):
    with pytest.raises(ValueError, match='give "pages"'):
        make_storage(host)
    with pytest.raises(ValueError, match="MLA"):
        make_storage(host, pages=4, config={"is_mla_model": True, "tp_size": 2})


def test_pages_in_an_agent_beside_outlive_the_engine(host, tmp_path):
    from mempool.sglang_storage import page_spec
    page_bytes = host.page(0).nbytes
    path = str(tmp_path / "rank{rank}")
    with mempool.Agent.start(
            name="beside", listen="127.0.0.1:0", content=page_spec("org/model", host, page_bytes),
            placement=mempool.Placement(form=mempool.BlockForm.AGGREGATED), segment_blocks=[4],
            engine_socket=path.format(rank=0)):
        first = make_storage(host, socket=path)
        assert first.batch_set_v1(["a"], indices(2)) == [True]
        first.close()
        second = make_storage(host, socket=path)
        wanted = host.page(2).clone()
        host.buffer.zero_()
        assert second.batch_get_v1(["a"], indices(2)) == [True]
        assert torch.equal(host.page(2), wanted)
        second.close()
        other = make_storage(host, socket=path, config={"model_name": "org/other"})
        assert other.batch_exists(["a"]) == 0
        other.close()
        other = make_storage(host, socket=path, version="tuned")
        assert other.batch_exists(["a"]) == 0
        other.close()


def test_a_clear_holds_for_the_next_engine_at_the_agent(host, tmp_path):
    from mempool.sglang_storage import page_spec
    path = str(tmp_path / "agent")
    with mempool.Agent.start(
            name="beside", listen="127.0.0.1:0",
            content=page_spec("org/model", host, host.page(0).nbytes),
            placement=mempool.Placement(form=mempool.BlockForm.AGGREGATED), segment_blocks=[4],
            engine_socket=path):
        first = make_storage(host, socket=path)
        first.batch_set_v1(["a"], indices(2))
        first.clear()
        first.close()
        later = make_storage(host, socket=path)
        assert later.batch_exists(["a"]) == 0
        later.close()


def test_an_agent_with_other_blocks_is_refused(host, tmp_path):
    from mempool.sglang_storage import page_spec
    path = str(tmp_path / "agent")
    with mempool.Agent.start(
            name="beside", listen="127.0.0.1:0",
            content=page_spec("org/model", host, 2 * host.page(0).nbytes),
            placement=mempool.Placement(form=mempool.BlockForm.AGGREGATED), segment_blocks=[4],
            engine_socket=path):
        with pytest.raises(ValueError, match="and the agent's blocks"):
            make_storage(host, socket=path)
