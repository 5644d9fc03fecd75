# SPDX-License-Identifier: Apache-2.0
"""Owns what becomes of a finished request: its blocks go into the pool, and to another instance.

All of it runs in one thread beside vLLM's scheduler, which only queues a store and later asks which
ones have ended.
"""
import logging
import time
from array import array
from dataclasses import dataclass
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import mempool

TENSORS = "vllm"  # the name under which the ranks lend their tensors
log = logging.getLogger("mempool.vllm")


@dataclass
class Store:
    """A finished request's blocks on their way into the pool, and to `target`, where it has one."""

    request: str
    content: mempool.Content
    tokens: array
    places: list[int]
    target: str | None = None
    blocks: mempool.Blocks | None = None  # while they are claimed
    until: float = 0.0  # when a target that is busy is no longer asked
    tries: int = 0
    error: Exception | None = None


class Claims:
    """Which of vLLM's blocks are blocks of mempool now; one that requests share is claimed once.

    Thread: confined to the storing thread.
    """

    def __init__(self, pool: mempool.Pool) -> None:
        self._pool = pool
        self._held: dict[int, list[Any]] = {}  # place -> [its address, how many hold it]

    def take(self, places: list[int]) -> mempool.Blocks:
        """Give the addresses of vLLM's blocks. Errors: those of Pool.claim, with none taken."""
        fresh = [place for place in places if place not in self._held]
        for place, address in zip(fresh, self._pool.claim(TENSORS, fresh) if fresh else ()):
            self._held[place] = [address, 0]
        for place in places:
            self._held[place][1] += 1
        return mempool.Blocks([self._held[place][0] for place in places])

    def release(self, places: list[int]) -> None:
        over = []
        for place in places:
            self._held[place][1] -= 1
            if self._held[place][1] == 0:
                over.append(self._held.pop(place)[0])
        if over:
            self._pool.unpin(over)


class Storing:
    """Inserts and sends the blocks of finished requests, in a thread of its own.

    vLLM frees a request's blocks only when ended() has named it: by then nothing reads them. A
    store that fails costs a later miss, or a recomputation at the target, and is logged; whatever
    fails, the store ends, and the thread goes on.
    Thread: safe.
    """

    def __init__(self, agent: mempool.Agent, deadline: float | None, patience: float) -> None:
        """`deadline` is that of one transfer, `patience` how long a busy target is asked again."""
        self._agent = agent
        self._deadline = deadline
        self._patience = patience
        self._claims = Claims(agent)
        self._work: SimpleQueue = SimpleQueue()  # (step, store), or None at the end
        self._later: list[tuple[float, int, Store]] = []  # a heap of what is to be sent again
        self._put_off = 0  # orders what is due at once
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._thread = Thread(target=self._run, name="mempool-store", daemon=True)
        self._thread.start()

    def begin(self, store: Store) -> None:
        self._work.put((self._store, store))

    def ended(self) -> list[str]:
        """Give the requests whose blocks nobody reads any more, each once."""
        return [self._ended.get() for _ in range(self._ended.qsize())]

    def close(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._next()) is not None:
            step, store = item
            try:
                step(store)
            except Exception as error:  # the requests behind this one wait for the thread
                store.error = error
                self._end(store)

    def _next(self) -> tuple[Any, Store] | None:
        """Wait for what is to be done next: what is queued, or a transfer to be tried again."""
        while self._later:
            wait = self._later[0][0] - time.monotonic()
            if wait <= 0:
                return self._send, heappop(self._later)[2]
            try:
                return self._work.get(timeout=wait)
            except Empty:
                continue
        return self._work.get()

    def _store(self, store: Store) -> None:
        store.blocks = self._claims.take(store.places)
        try:
            self._agent.insert(store.content, store.tokens, store.blocks)
        except mempool.Error as error:  # a full pool, for one; the target may have room
            log.warning("request %s is not cached here: %s", store.request, error)
        if store.target is None:
            self._end(store)
            return
        store.until = time.monotonic() + self._patience
        self._send(store)

    def _send(self, store: Store) -> None:
        """Begin the transfer, at whose end the store is looked at again."""

        def on_done(error: mempool.Error | None) -> None:  # on the package's thread
            store.error = error
            self._work.put((self._sent, store))

        try:
            self._agent.transfer_with_insert(
                store.target, store.content, store.tokens, store.blocks, deadline=self._deadline,
                on_done=on_done)
        except mempool.Error as error:
            store.error = error
            self._sent(store)

    def _sent(self, store: Store) -> None:
        """End the store, or put it off where one side has as many transfers as it takes."""
        busy = isinstance(store.error, mempool.ResourceExhausted) and store.error.retry_after_ms
        if not busy or time.monotonic() > store.until:
            self._end(store)
            return
        store.error = None
        store.tries += 1  # a target that stays busy is asked ever more seldom
        self._put_off += 1
        due = time.monotonic() + store.tries * busy / 1000
        heappush(self._later, (due, self._put_off, store))

    def _end(self, store: Store) -> None:
        if store.error is not None and store.blocks is None:
            log.warning("request %s is not stored: %s", store.request, store.error)
        elif store.error is not None:
            log.warning("request %s did not reach %s: %s", store.request, store.target,
                        store.error)
        try:
            if store.blocks is not None:
                self._claims.release(store.places)
        except mempool.Error as error:
            log.warning("request %s: its blocks were not given back: %s", store.request, error)
        self._ended.put(store.request)
