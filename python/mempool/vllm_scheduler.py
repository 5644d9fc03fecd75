# SPDX-License-Identifier: Apache-2.0
"""Owns the connector's part in vLLM's scheduler: what is matched, loaded, stored and waited for.

The agent is embedded here, where all decisions are made, and the ranks attach to it as shards. So a
match is a call under a lock and no round trip, and one index decides for all ranks. Nothing here
costs anything for a request that merely runs, and next to nothing for one that waits.
"""
import logging
import os
import shutil
import tempfile
import time
import uuid
from array import array
from dataclasses import dataclass, field
from typing import Any

import mempool
from mempool.vllm_settings import Settings, agent_options
from mempool.vllm_shape import KvShape, request_key
from mempool.vllm_storing import Store, Storing

# Of a request that ends otherwise, nobody knows what its KV is worth.
STORED_ENDS = ("FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_REPETITION",
               "FINISHED_ABORTED")
LOOK = 0.005  # seconds at least, between looks for one prompt that is on its way
SHARE = 50  # looks take one second in so many
DEAREST = 200e-6  # seconds that a look counts as, at most; more is another thread's
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
class Matched:
    """Blocks found for a waiting request, pinned until they are loaded or not wanted."""

    blocks: mempool.Blocks
    tokens: int  # that they cover
    computed: int  # of these, by vLLM itself


@dataclass
class Wait:
    """How a request waits for its prompt from another instance. Times are monotonic, in seconds."""

    tokens: array
    until: float
    next_look: float = 0.0


@dataclass
class Seen:
    """What is known of a request from its first find() to its end."""

    life: bytes  # in which its KV began
    admitted: bool = False  # once; its prompt is not waited for again


class SchedulerSide:
    """The connector as the scheduler sees it. Thread: confined to the scheduler's."""

    def __init__(self, vllm_config: Any, shape: KvShape) -> None:
        transfer = vllm_config.kv_transfer_config
        settings = Settings.of(transfer.kv_connector_extra_config)
        self._shape = shape
        self._loads = transfer.is_kv_consumer
        self._stores = transfer.is_kv_producer
        self._wait = settings.wait
        self._folder = tempfile.mkdtemp(prefix="mempool-")
        socket = os.path.join(self._folder, "engine")
        try:
            self.agent = mempool.Agent.start(**agent_options(vllm_config, shape, socket))
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        patience = settings.wait if settings.deadline is None else settings.deadline
        self._storing = Storing(self.agent, settings.deadline, patience)
        self._contents: dict[tuple[str, str, bytes], mempool.Content] = {}
        self._life = b""  # drawn anew by each reset
        self._seen: dict[str, Seen] = {}
        self._waiting: dict[str, Wait] = {}
        self._next_look = 0.0  # of whichever request waits
        self._matched: dict[str, Matched] = {}
        self._loading: dict[str, mempool.Blocks] = {}
        self._caching: set[str] = set()  # stores that no other instance can keep waiting
        self._step = Step(socket)

    def content_of(self, request: Any) -> mempool.Content | None:
        key = request_key(request)
        if key is None:
            return None
        if key not in self._contents:
            if len(self._contents) >= 4096:  # images and salts come and go
                self._contents.clear()
            adapter, salt, root = key
            spec = self._shape.content_spec(adapter=adapter, salt=salt, root=root + self._life)
            self._contents[key] = self.agent.content(spec)
        return self._contents[key]

    # ---- before a request runs ----

    def find(self, request: Any, computed: int) -> tuple[int | None, bool]:
        """Give how many tokens beyond `computed` are here, or None to be asked again later.

        vLLM asks while the request has no KV. The last token is always left to the engine, which
        needs its logits.
        """
        name = request.request_id
        self._forget_match(name)
        seen = self._seen.setdefault(name, Seen(self._life))
        seen.life = self._life
        begun = time.monotonic()
        wait = self._waiting.get(name)
        if wait and begun < min(wait.until, max(wait.next_look, self._next_look)):
            return None, False
        most = self._whole(request.num_tokens)
        content = self.content_of(request)
        skipped = getattr(request, "skip_reading_prefix_cache", False)
        if not self._loads or content is None or skipped or most <= computed:
            self._waiting.pop(name, None)
            return 0, False
        tokens = wait.tokens if wait else array("I", request.all_token_ids)[:most]
        found = self.agent.match(content, tokens)
        lacks = max(found.tokens, computed) < min(most, self._whole(request.num_prompt_tokens))
        if lacks and not seen.admitted and self._waits(request, content, tokens, begun):
            self.agent.unpin(found.blocks)
            return None, False
        self._waiting.pop(name, None)
        if found.tokens <= computed:
            self.agent.unpin(found.blocks)
            return 0, False
        self._matched[name] = Matched(found.blocks, found.tokens, computed)
        return found.tokens - computed, True

    def _whole(self, tokens: int) -> int:
        """Give the tokens of the whole blocks before the last token."""
        block = self._shape.block_tokens
        return max(tokens - 1, 0) // block * block

    def _waits(self, request: Any, content: mempool.Content, tokens: array, begun: float) -> bool:
        """Tell whether another instance may still be sending this prompt, and when to look again.

        vLLM asks for every waiting request in each step, and a look costs as much as the prompt is
        long. So looks take turns, and all of them together a small share of the time.
        """
        params = request.kv_transfer_params or {}
        if not params.get("do_remote_prefill"):
            return False
        if params.get("mempool_content", content.id) != content.id:
            log.warning("request %s: its prompt was computed as other content (of another model or "
                        "layout, before or after a reset); it is computed here", request.request_id)
            return False
        wait = self._waiting.setdefault(request.request_id, Wait(tokens, begun + self._wait))
        now = time.monotonic()
        if now >= wait.until:
            log.warning("request %s: its prompt did not arrive within %g s; it is computed here",
                        request.request_id, self._wait)
            return False
        pause = SHARE * min(now - begun, DEAREST)
        self._next_look = now + pause
        wait.next_look = now + max(LOOK, pause * len(self._waiting))
        return True

    def load(self, request: Any, places: list[int], tokens: int) -> None:
        """Have `tokens` tokens loaded into the blocks of vLLM's that were allocated for them."""
        name = request.request_id
        if name in self._seen:
            self._seen[name].admitted = True
        found = self._matched.get(name)
        if found is None:
            return
        if tokens == 0:
            self._forget_match(name)
            return
        first = found.computed // self._shape.block_tokens
        last = first + tokens // self._shape.block_tokens
        assert last <= min(len(places), len(found.blocks)), (
            f"{name}: blocks {first} to {last} of {len(found.blocks)} into {len(places)}")
        del self._matched[name]
        self._loading[name] = found.blocks
        self._step.loads.append(Load(name, bytes(found.blocks[first:last]), places[first:last]))

    def _forget_match(self, name: str) -> None:
        found = self._matched.pop(name, None)
        if found is not None:
            self.agent.unpin(found.blocks)

    def reset(self) -> None:
        """Have nothing that was stored until now match again: the weights have changed, maybe.

        What is there is evicted in its time. Requests that have KV by now are not stored when they
        end. The name of the new life is drawn, so nobody else's KV, of whatever weights, matches.
        """
        self._life = uuid.uuid4().bytes
        log.warning("reset: from now on this instance shares no KV with any other one, nor with "
                    "itself before (life %s)", self._life.hex())
        self._contents.clear()
        self._waiting.clear()

    # ---- each step ----

    def next_step(self) -> Step:
        step = self._step
        step.stored = self._storing.ended()
        self._step = Step(step.socket)
        return step

    def take_output(self, loaded: set[str], stored: set[str]) -> None:
        """All ranks have ended these loads, well or not, and vLLM frees what is stored."""
        for name in loaded:
            self.agent.unpin(self._loading.pop(name, ()))
        self._caching -= stored

    def frees_soon(self) -> bool:
        """Tell whether blocks come back by themselves, so that nobody need be preempted."""
        return bool(self._caching)

    # ---- after a request ----

    def finish(self, request: Any, places: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Tell whether vLLM has to keep the blocks, and what the next instance shall be told."""
        name = request.request_id
        is_loading = name in self._loading or name in self._matched
        self._forget_match(name)
        self._waiting.pop(name, None)
        seen = self._seen.pop(name, None)
        content = self.content_of(request)
        if not self._stores or content is None or seen is None or seen.life != self._life:
            return False, None
        if is_loading or request.status.name not in STORED_ENDS:
            return False, None
        # A step under way writes behind the tokens that earlier ones have computed, and the last
        # token was sampled and has no KV yet.
        computed = request.num_computed_tokens - request.num_in_flight_tokens
        block = self._shape.block_tokens
        whole = min(computed // block, (request.num_tokens - 1) // block, len(places))
        if whole <= 0:
            return False, None
        tokens = array("I", request.all_token_ids)[:whole * block]
        store = Store(name, content, tokens, places[:whole], self._target_of(request))
        told = None
        if store.target is None:
            self._caching.add(name)
        else:
            told = {"do_remote_prefill": True, "mempool_content": content.id}
        self._storing.begin(store)
        return True, told

    def _target_of(self, request: Any) -> str | None:
        """Give the instance that shall have the prompt. An aborted request has no use for one."""
        params = request.kv_transfer_params or {}
        target = params.get("mempool_target") if params.get("do_remote_decode") else None
        if target is None or request.status.name == "FINISHED_ABORTED":
            return None
        if not isinstance(target, str):
            log.warning("request %s is sent nowhere: its mempool_target is a %s, and has to be the "
                        "name of a peer", request.request_id, type(target).__name__)
            return None
        return target

    def close(self) -> None:
        self._storing.close()
        self.agent.close()
        shutil.rmtree(self._folder, ignore_errors=True)
