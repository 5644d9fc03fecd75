# SPDX-License-Identifier: Apache-2.0
"""Owns the connector's part in vLLM's scheduler: the agent, what is matched, stored and sent.

The agent is embedded here, where all decisions are made, and the ranks attach to it as shards. So a
match is a call under a lock and no round trip, and one index decides for all ranks. Nothing here
costs anything for a request that merely runs.
"""
import logging
import os
import shutil
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any

import mempool
from mempool.vllm_shape import KvShape, request_key

TENSORS = "vllm"  # the name under which the ranks lend their tensors
STORED_ENDS = ("FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED")  # others may be amid a step
log = logging.getLogger("mempool.vllm")


@dataclass
class Load:
    """Blocks of the pool to be copied into blocks of vLLM's, one to one, for one request."""

    request: str
    sources: bytes  # mempool.Blocks
    places: list[int]


@dataclass
class Step:
    """What the scheduler tells the ranks with one step; pickled on its way."""

    socket: str
    loads: list[Load] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)  # requests whose blocks vLLM may free


@dataclass
class Store:
    """A finished request's blocks on their way into the pool, and to `target`, where it has one."""

    request: str
    content: mempool.Content
    tokens: array
    places: list[int]
    target: str | None
    error: mempool.Error | None = None


def agent_options(vllm_config: Any, shape: KvShape, socket: str) -> dict[str, Any]:
    """Give the agent's options: those of kv_connector_extra_config's "agent", and our own."""
    transfer = vllm_config.kv_transfer_config
    extra = transfer.kv_connector_extra_config
    blocks = int(extra.get("blocks", shape.blocks))
    name = extra.get("name", f"vllm-{transfer.engine_id}")
    if vllm_config.parallel_config.data_parallel_size > 1:
        name += f"-dp{vllm_config.parallel_config.data_parallel_rank}"
    return {
        "name": name,
        "max_blocks": 2 * blocks + shape.blocks,  # vLLM's own are blocks of the pool, too
        **extra.get("agent", {}),
        "content": shape.content_spec(),
        "placement": shape.placement(),
        "shards": shape.shards,
        "segment_blocks": [blocks],
        "engine_socket": socket,
        "deliver_arrivals": False,  # what arrives is found by match
    }


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
    store that fails costs a later miss, or a recomputation at the target, and is logged.
    Thread: safe.
    """

    def __init__(self, agent: mempool.Agent, deadline: float | None) -> None:
        self._agent = agent
        self._deadline = deadline
        self._claims = Claims(agent)
        self._work: SimpleQueue = SimpleQueue()  # (step, store), or None at the end
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
        while (item := self._work.get()) is not None:
            step, store = item
            step(store)

    def _store(self, store: Store) -> None:
        try:
            blocks = self._claims.take(store.places)
        except mempool.Error as error:
            log.warning("request %s is not stored: %s", store.request, error)
            self._ended.put(store.request)
            return
        try:
            self._agent.insert(store.content, store.tokens, blocks)
        except mempool.Error as error:  # a full pool, for one; the target may have room
            log.warning("request %s is not cached here: %s", store.request, error)
        if store.target is None or not self._send(store, blocks):
            self._finish(store)

    def _send(self, store: Store, blocks: mempool.Blocks) -> bool:
        """Tell whether a transfer is under way, at whose end the store is finished."""

        def on_done(error: mempool.Error | None) -> None:  # on the package's thread
            store.error = error
            self._work.put((self._finish, store))

        try:
            self._agent.transfer_with_insert(store.target, store.content, store.tokens, blocks,
                                             deadline=self._deadline, on_done=on_done)
        except mempool.Error as error:
            store.error = error
            return False
        return True

    def _finish(self, store: Store) -> None:
        if store.error is not None:
            log.warning("request %s did not reach %s: %s", store.request, store.target,
                        store.error)
        self._claims.release(store.places)
        self._ended.put(store.request)


@dataclass
class Matched:
    """Blocks found for a waiting request, pinned until they are loaded or not wanted."""

    blocks: mempool.Blocks
    tokens: int  # that they cover
    computed: int  # of these, by vLLM itself


class SchedulerSide:
    """The connector as the scheduler sees it. Thread: confined to the scheduler's."""

    def __init__(self, vllm_config: Any, shape: KvShape) -> None:
        transfer = vllm_config.kv_transfer_config
        extra = transfer.kv_connector_extra_config
        self._shape = shape
        self._loads = transfer.is_kv_consumer
        self._stores = transfer.is_kv_producer
        self._wait = float(extra.get("wait", 30.0))
        self._folder = tempfile.mkdtemp(prefix="mempool-")
        socket = os.path.join(self._folder, "engine")
        try:
            self.agent = mempool.Agent.start(**agent_options(vllm_config, shape, socket))
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self._storing = Storing(self.agent, extra.get("deadline"))
        self._contents: dict[tuple[str, str, bytes], mempool.Content] = {}
        self._resets = 0
        self._waiting: dict[str, float] = {}  # request -> when it stops to wait for an arrival
        self._matched: dict[str, Matched] = {}
        self._loading: dict[str, mempool.Blocks] = {}
        self._step = Step(socket)

    def content_of(self, request: Any) -> mempool.Content | None:
        key = request_key(request)
        if key is None:
            return None
        if key not in self._contents:
            if len(self._contents) >= 4096:  # images and salts come and go
                self._contents.clear()
            adapter, salt, root = key
            life = f"reset {self._resets}".encode() if self._resets else b""
            spec = self._shape.content_spec(adapter=adapter, salt=salt, root=root + life)
            self._contents[key] = self.agent.content(spec)
        return self._contents[key]

    # ---- before a request runs ----

    def find(self, request: Any, computed: int) -> tuple[int | None, bool]:
        """Give how many tokens beyond `computed` are here, or None to be asked again later.

        The last token is always left to the engine, which needs its logits.
        """
        name = request.request_id
        self._forget_match(name)
        block = self._shape.block_tokens
        most = (request.num_tokens - 1) // block * block
        content = self.content_of(request)
        skipped = getattr(request, "skip_reading_prefix_cache", False)
        if not self._loads or content is None or skipped or most <= computed:
            return 0, False
        found = self.agent.match(content, array("I", request.all_token_ids)[:most])
        if found.tokens < most and self._waits(request):
            self.agent.unpin(found.blocks)
            return None, False
        self._waiting.pop(name, None)
        if found.tokens <= computed:
            self.agent.unpin(found.blocks)
            return 0, False
        self._matched[name] = Matched(found.blocks, found.tokens, computed)
        return found.tokens - computed, True

    def _waits(self, request: Any) -> bool:
        """Tell whether another instance may still be sending this prompt."""
        params = request.kv_transfer_params or {}
        if not params.get("do_remote_prefill"):
            return False
        until = self._waiting.setdefault(request.request_id, time.monotonic() + self._wait)
        if time.monotonic() < until:
            return True
        log.warning("request %s: its prompt did not arrive within %g s; it is computed here",
                    request.request_id, self._wait)
        return False

    def load(self, request: Any, places: list[int], tokens: int) -> None:
        """Have `tokens` tokens loaded into the blocks of vLLM's that were allocated for them."""
        name = request.request_id
        found = self._matched.get(name)
        if found is None:
            return
        if tokens == 0:
            self._forget_match(name)
            return
        del self._matched[name]
        first = found.computed // self._shape.block_tokens
        last = first + tokens // self._shape.block_tokens
        self._loading[name] = found.blocks
        self._step.loads.append(Load(name, bytes(found.blocks[first:last]), places[first:last]))

    def _forget_match(self, name: str) -> None:
        found = self._matched.pop(name, None)
        if found is not None:
            self.agent.unpin(found.blocks)

    def reset(self) -> None:
        """Have nothing that was stored until now match again: the weights have changed, maybe.

        What is there is evicted in its time. Instances that were reset equally often share KV.
        """
        self._resets += 1
        self._contents.clear()
        for name in list(self._matched):
            self._forget_match(name)

    # ---- each step ----

    def next_step(self) -> Step:
        step = self._step
        step.stored = self._storing.ended()
        self._step = Step(step.socket)
        return step

    def loaded(self, names: set[str]) -> None:
        """All ranks have ended these loads, well or not: let the pool's blocks go."""
        for name in names:
            self.agent.unpin(self._loading.pop(name, ()))

    # ---- after a request ----

    def finish(self, request: Any, places: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Tell whether vLLM has to keep the blocks, and what the next instance shall be told."""
        name = request.request_id
        self._waiting.pop(name, None)
        self._forget_match(name)
        content = self.content_of(request)
        block = self._shape.block_tokens
        # The last token was sampled and has no KV yet.
        whole = min((request.num_tokens - 1) // block, len(places))
        stored = request.status.name in STORED_ENDS
        if not self._stores or content is None or not stored or whole == 0:
            return False, None
        params = request.kv_transfer_params or {}
        target = params.get("mempool_target") if params.get("do_remote_decode") else None
        tokens = array("I", request.all_token_ids)[:whole * block]
        self._storing.begin(Store(name, content, tokens, places[:whole], target))
        told = {"do_remote_prefill": True, "mempool_source": self.agent.name} if target else None
        return True, told

    def close(self) -> None:
        self._storing.close()
        self.agent.close()
        shutil.rmtree(self._folder, ignore_errors=True)
