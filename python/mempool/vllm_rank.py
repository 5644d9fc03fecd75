# SPDX-License-Identifier: Apache-2.0
"""Owns the connector's part in a rank's process: its tensors, lent to the agent, and the loads.

Each rank attaches to the agent in the scheduler's process as one shard, and copies what is loaded
into its own tensors itself, so that ranks load side by side.
"""
import logging
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import torch

import mempool
from mempool.vllm_memory import KvMemory, adopted_memory
from mempool.vllm_shape import KvShape
from mempool.vllm_scheduler import Load, Step
from mempool.vllm_storing import TENSORS

REGISTERED = 1e9  # bytes a second that a transport registers, at the least
log = logging.getLogger("mempool.vllm")


def pieces_of(memory: mempool.AdoptedMemory, data: np.ndarray, shape: KvShape) -> np.ndarray:
    """Give adopted memory as bytes [blocks, layers, parts, bytes of a piece]."""
    piece = shape.page_bytes // shape.parts
    return np.lib.stride_tricks.as_strided(
        data, (shape.blocks, len(shape.layers), shape.parts, piece),
        (memory.block_stride, memory.layer_stride, memory.part_stride, 1))


def segment_pieces(pool: mempool.Pool, segment: int, shard: int) -> np.ndarray:
    """Give a segment of the pool's own likewise; the tokens and heads of a piece are one run."""
    view = np.asarray(pool.segment(segment, shard))
    layout = pool.layout(segment, shard)
    blocks, layers, parts = view.shape[:3]
    return np.lib.stride_tricks.as_strided(
        view.view(np.uint8), (blocks, layers, parts, layout.piece_bytes),
        (*view.strides[:3], 1))


class RankSide:
    """The connector as a worker sees it. Thread: confined to the worker's, but for the loads, which
    a thread of its own copies in the order in which they came."""

    def __init__(self, vllm_config: Any, shape: KvShape) -> None:
        extra = vllm_config.kv_transfer_config.kv_connector_extra_config
        self._shape = shape
        self._rank = vllm_config.parallel_config.rank
        self._verify = extra.get("agent", {}).get("verify", "sampled")
        self.memory = KvMemory()
        self._lent: mempool.AdoptedMemory | None = None
        self._pool: mempool.Pool | None = None
        self._work: SimpleQueue[Load | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[str, set[int]]] = SimpleQueue()
        self._thread: Thread | None = None
        self._stored: set[str] = set()
        self._failed: set[int] = set()

    def register(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the tensors of all layers. Errors: ValueError for what mempool cannot adopt."""
        self._lent = adopted_memory(tensors, self._shape, self.memory)
        first = tensors[self._shape.layers[0]]
        flat, _ = self.memory.behind(first)
        self._places = pieces_of(self._lent, flat[first.data_ptr() - flat.data_ptr():].numpy(),
                                 self._shape)

    def _attach(self, socket: str) -> None:
        """Join the agent, which starts after the workers have registered their tensors."""
        self._pool = mempool.attach(socket, shard=self._rank, shards=self._shape.shards,
                                    placement=self._shape.placement(),
                                    timeout=5.0 + self._lent.nbytes / REGISTERED)
        self._pool.adopt(TENSORS, [self._lent], blocks=self._shape.blocks)
        self._thread = Thread(target=self._run, name="mempool-load", daemon=True)
        self._thread.start()

    def begin(self, step: Step) -> None:
        if self._pool is None:
            self._attach(step.socket)
        for load in step.loads:
            self._work.put(load)
        self._stored.update(step.stored)

    def ended(self) -> tuple[set[str], set[str]]:
        """Give the requests that are stored and those that are loaded, each once."""
        loaded = set()
        for _ in range(self._ended.qsize()):
            name, failed = self._ended.get()
            loaded.add(name)
            self._failed |= failed
        stored, self._stored = self._stored, set()
        return stored, loaded

    def failed(self) -> set[int]:
        """Give the blocks of vLLM's into which nothing right was loaded, each once."""
        failed, self._failed = self._failed, set()
        return failed

    def _run(self) -> None:
        while (load := self._work.get()) is not None:
            self._ended.put((load.request, self._load(load)))

    def _load(self, load: Load) -> set[int]:
        failed = set()
        segments: dict[int, np.ndarray] = {}  # for this load alone, whose blocks are pinned
        for source, place in zip(mempool.Blocks.from_bytes(load.sources), load.places):
            try:
                self._load_block(source, place, segments)
            except Exception as error:  # a thread that ended would leave its requests waiting
                log.warning("request %s: block %d was not loaded: %s", load.request, place, error)
                failed.add(place)
        return failed

    def _load_block(self, source: mempool.BlockAddress, place: int,
                    segments: dict[int, np.ndarray]) -> None:
        """Copy one block. Errors: Stale and Corruption, with the place's bytes undefined."""
        if self._rank == 0 and mempool.picks(self._verify, source):  # a checksum is of all ranks
            self._pool.read(source)
        segment, at = self._pool.segment_of(source)  # at its generation, too
        if segment not in segments:
            segments[segment] = segment_pieces(self._pool, segment, self._rank)
        self._places[place] = segments[segment][at]
        self._pool.piece(source, 0, 0, self._rank)

    def close(self) -> None:
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
        if self._pool is not None:
            self._pool.close()  # takes the tensors back
        self.memory.close()
