# SPDX-License-Identifier: Apache-2.0
"""Gives SGLang's hierarchical cache its storage: pages under their hashes, in a mempool pool.

Loaded by `--hicache-storage-backend dynamic`; docs/sglang.md has the settings. A page is opaque
bytes here: what the host pool's buffers of one page hold, one behind the other, in one block.
"""
import ctypes
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, PoolName

import mempool

LEAVING = 5.0  # seconds that an agent may take to see that an engine has left
log = logging.getLogger("mempool.sglang")


def page_spec(model: str, host: Any, page_bytes: int) -> mempool.ContentSpec:
    """Describe pages of `page_bytes` as blocks of as many. Raise ValueError where none are."""
    vector, rest = divmod(page_bytes, host.layer_num * host.page_size)
    if rest:
        raise ValueError(f"mempool: a page of {page_bytes} bytes is no multiple of "
                         f"{host.layer_num} layers x {host.page_size} tokens; choose another "
                         "--hicache-mem-layout")
    return mempool.ContentSpec(
        model=model, element=mempool.ElementType.INT8, layers=host.layer_num, kv_heads=1,
        mla_rank=vector, tokens_per_block=host.page_size, quantization="sglang page")


def key_prefix(config: Any, host: Any, version: str) -> bytes:
    """Name what pages depend on beside their hash: the model, the layout, and the rank's share."""
    words = (config.model_name, version, host.layout, str(host.dtype), host.page_size,
             host.layer_num, config.tp_rank, config.tp_size, config.pp_rank, config.pp_size,
             config.attn_cp_rank, config.attn_cp_size, config.is_mla_model)
    return hashlib.sha256(repr(words).encode()).digest()[:16]


def join_agent(path: str) -> mempool.Pool:
    """Attach to the agent at a socket. Errors: those of attach; AlreadyExists after LEAVING."""
    limit = time.monotonic() + LEAVING
    while True:
        try:
            return mempool.attach(path)
        except mempool.AlreadyExists:  # the engine before this one is about to leave, maybe
            if time.monotonic() > limit:
                raise
            time.sleep(0.01)


class MempoolStorage(HiCacheStorage):
    """Pages of one rank in a pool: embedded, or of the agent beside it. Thread: safe.

    No call raises or gives None, but for the ones that SGLang makes at start: an exception would
    end SGLang's transfer threads for good. What fails is logged and is a miss.
    """

    def __init__(self, storage_config: Any, kwargs: Any = None) -> None:
        """Errors: ValueError for settings that cannot work."""
        self._config = storage_config
        self._extra = dict(storage_config.extra_config or {})
        if storage_config.is_mla_model and storage_config.tp_size > 1:
            raise ValueError("mempool: ranks of an MLA model read what rank 0 has stored, and each "
                             "rank has a pool of its own; give --tp-size 1, or another storage")
        self._verify = self._extra.get("agent", {}).get("verify", "sampled")
        self._pool: mempool.Pool | None = None

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        """Start, or attach to, the pool for pages of this host pool.

        Errors: ValueError for pages that no block can be; those of Agent.start and attach.
        """
        self.close()
        super().register_mem_pool_host(mem_pool_host)
        _, sizes = mem_pool_host.get_page_buffer_meta(torch.arange(mem_pool_host.page_size))
        self._page_bytes = sum(sizes)
        self._prefix = key_prefix(self._config, mem_pool_host, str(self._extra.get("version", "")))
        if "socket" in self._extra:
            pool = join_agent(self._extra["socket"].format(rank=self._config.tp_rank))
        else:
            pool = self._start(mem_pool_host)
        layout = pool.layout()
        if layout.block_bytes != self._page_bytes or layout.block_stride != self._page_bytes:
            pool.close()
            raise ValueError(f"mempool: a page has {self._page_bytes} bytes, and the agent's "
                             f"blocks {layout.block_bytes}; give it [content] and an aggregated "
                             "[placement] of that size")
        self._pool = pool

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:
        """Take note of the KV pool. Errors: ValueError for the pools that some models have beside.
        """
        if host_pool_name != PoolName.KV:
            raise ValueError(f"mempool: the pool {host_pool_name} beside the KV pool cannot be "
                             "kept; serve without speculative decoding a model of plain attention")
        super().register_mem_host_pool_v2(host_pool, host_pool_name)

    def _start(self, host: Any) -> mempool.Agent:
        if "pages" not in self._extra:
            raise ValueError('mempool: give "pages", the size of the pool, or "socket", where an '
                             "agent is, in --hicache-storage-backend-extra-config")
        options = {"name": f"sglang-{self._config.tp_rank}", "deliver_arrivals": False,
                   **self._extra.get("agent", {})}
        return mempool.Agent.start(
            content=page_spec(self._config.model_name or "", host, self._page_bytes),
            placement=mempool.Placement(form=mempool.BlockForm.AGGREGATED),
            segment_blocks=[int(self._extra["pages"]) + 1], **options)  # and the life's

    # ---- what SGLang calls ----

    def batch_exists(self, keys: list[str], extra_info: Any = None) -> int:
        """Give how many leading keys are held."""
        return self._guarded(0, self._count, keys)

    def batch_get_v1(self, keys: list[str], host_indices: torch.Tensor,
                     extra_info: Any = None) -> list[bool]:
        """Copy pages from the pool into the host pool's buffers, as far as they are held."""
        return self._guarded([False] * len(keys), self._get_pages, keys, host_indices)

    def batch_set_v1(self, keys: list[str], host_indices: torch.Tensor,
                     extra_info: Any = None) -> list[bool]:
        """Copy pages from the host pool's buffers into the pool."""
        return self._guarded([False] * len(keys), self._set_pages, keys, host_indices)

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def get(self, key: str, target_location: Any = None,
            target_sizes: Any = None) -> torch.Tensor | None:
        """Fill a flat page of the host pool's type, and give it, or None for a miss."""
        return self.batch_get([key], [target_location])[0]

    def batch_get(self, keys: list[str], target_locations: Any = None,
                  target_sizes: Any = None) -> list[torch.Tensor | None]:
        return self._guarded([None] * len(keys), self._get_flat, keys, target_locations)

    def set(self, key: str, value: Any = None, target_location: Any = None,
            target_sizes: Any = None) -> bool:
        return self.batch_set([key], [value])

    def batch_set(self, keys: list[str], values: Any = None, target_locations: Any = None,
                  target_sizes: Any = None) -> bool:
        """Store flat pages, as HostKVCache.get_data_page() gives them."""
        return all(self._guarded([False], self._set_flat, keys, values))

    def clear(self) -> None:
        """Have no page that was stored until now match again, for whoever uses this pool."""
        self._guarded(None, self._end_life)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    # ---- how it is done ----

    def _guarded(self, miss: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        if self._pool is None:
            return miss
        try:
            return call(*arguments)
        except Exception as error:  # whatever it is, the thread that calls must live
            log.warning("%s: %s", call.__name__, error)
            return miss

    @contextmanager
    def _named(self, keys: list[str]) -> Iterator[list[bytes]]:
        """Give the pool's keys of pages, which begin with the life in which they are stored.

        A life is the address of one block that is published under the prefix: no other block ever
        has it, other engines at this pool find it, and when it has gone, all that it names has.
        """
        life = self._pool.match_keys([self._prefix])
        if not life:
            fresh = self._pool.alloc(1)
            self._pool.insert_keys([self._prefix], fresh)
            self._pool.unpin(fresh)
            life = self._pool.match_keys([self._prefix])  # maybe another thread's
        if not life:
            raise RuntimeError("the pool has not admitted the block that names this life")
        try:
            yield [self._prefix + bytes(life) + key.encode() for key in keys]
        finally:
            self._pool.unpin(life)

    def _end_life(self) -> None:
        self._pool.erase_keys([self._prefix])

    def _count(self, keys: list[str]) -> int:
        with self._named(keys) as names:
            held = self._pool.match_keys(names)
        self._pool.unpin(held)
        return len(held)

    @contextmanager
    def _held(self, keys: list[str]) -> Iterator[mempool.Blocks]:
        """Give the leading pages that are held, as far as those that are checked are intact."""
        with self._named(keys) as names:
            held = self._pool.match_keys(names)
            try:
                yield held[:self._intact(held)]
            finally:
                self._pool.unpin(held)

    def _intact(self, held: mempool.Blocks) -> int:
        for at, block in enumerate(held):
            try:
                if mempool.picks(self._verify, block):
                    self._pool.read(block)
            except mempool.Corruption as error:
                log.warning("a page is left out: %s", error)
                return at
        return len(held)

    def _addresses(self, blocks: mempool.Blocks) -> list[int]:
        return [np.asarray(self._pool.piece(block, 0, 0)).ctypes.data for block in blocks]

    def _ranges(self, keys: list[str], host_indices: torch.Tensor) -> list[list[tuple[int, int]]]:
        """Give each page's buffers in the host pool, as addresses and sizes in bytes."""
        addresses, sizes = self.mem_pool_host.get_page_buffer_meta(host_indices)
        each, rest = divmod(len(addresses), len(keys))
        if rest or sum(sizes) != len(keys) * self._page_bytes:
            raise ValueError(f"{len(keys)} keys for {sum(sizes)} bytes of pages, and a page has "
                             f"{self._page_bytes}")
        ranges = list(zip(addresses, sizes))
        return [ranges[page * each:(page + 1) * each] for page in range(len(keys))]

    def _get_pages(self, keys: list[str], host_indices: torch.Tensor) -> list[bool]:
        pages = self._ranges(keys, host_indices)
        with self._held(keys) as held:
            for source, ranges in zip(self._addresses(held), pages):
                for address, size in ranges:
                    ctypes.memmove(address, source, size)
                    source += size
            return [at < len(held) for at in range(len(keys))]

    def _set_pages(self, keys: list[str], host_indices: torch.Tensor) -> list[bool]:
        return self._insert(keys, self._ranges(keys, host_indices))

    def _insert(self, keys: list[str], pages: Sequence[list[tuple[int, int]]]) -> list[bool]:
        """Copy pages in and publish them, but for the leading ones that are there."""
        with self._named(keys) as names:
            held = self._pool.match_keys(names)
            self._pool.unpin(held)
            there = len(held)
            if there == len(keys):
                return [True] * there
            blocks = self._pool.alloc(len(keys) - there)
            try:
                for target, ranges in zip(self._addresses(blocks), pages[there:]):
                    for address, size in ranges:
                        ctypes.memmove(target, address, size)
                        target += size
                admitted = self._pool.insert_keys(names[there:], blocks).admitted
            finally:
                self._pool.unpin(blocks)
        return [at < there + admitted for at in range(len(keys))]

    def _get_flat(self, keys: list[str], targets: list[torch.Tensor]) -> list[torch.Tensor | None]:
        for target in targets:
            self._check_flat(target)
        with self._held(keys) as held:
            for source, target in zip(self._addresses(held), targets):
                ctypes.memmove(target.data_ptr(), source, self._page_bytes)
            return [target if at < len(held) else None for at, target in enumerate(targets)]

    def _set_flat(self, keys: list[str], values: list[torch.Tensor]) -> list[bool]:
        for value in values:
            self._check_flat(value)
        return self._insert(keys, [[(value.data_ptr(), self._page_bytes)] for value in values])

    def _check_flat(self, page: torch.Tensor) -> None:
        if page.nbytes != self._page_bytes or not page.is_contiguous():
            raise ValueError(f"a flat page has {self._page_bytes} contiguous bytes; this tensor "
                             f"has {page.nbytes}, strides {page.stride()}")
