# SPDX-License-Identifier: Apache-2.0
"""Owns an engine: sequences whose KV lies in mempool's blocks, and the steps that compute them.

The pool's one segment, seen as an array, is the paged KV cache, and a block's index is its page.
What the engine asks of the pool is all here: `match` (or `fetch`) and `alloc` when a sequence
begins, `send_layers` and `commit` while its prefill goes on, `insert` when that or the answer is
complete, `unpin` at the end, whichever it is.
"""
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import mempool
import numpy as np

from reference_engine.llama import UNIT, Llama, Unit
from reference_engine.messages import (Cancelled, Failed, Finished, FirstToken, Policy, Request,
                                       Resume, Settled)

BATCH_MOST = 16  # sequences under way, of which some only wait for a transfer to end
CHUNK = 64  # tokens that a step prefills at most
DEADLINE_S = 120.0  # of a transfer, which lasts as long as the prefill whose KV it sends
RETRY_S = 0.01  # between two looks for blocks, when nothing else is to be done
WAIT_MOST_S = 60.0  # for blocks; a pool that gives none for so long is too small
RETURNED = b"returned"  # user data of KV that comes back from where an answer was decoded


@dataclass(eq=False)
class Sequence:
    """A request under way."""

    request: Request
    tokens: list[int]  # the prompt and, as far as it is known, the answer
    computed: int = 0  # leading tokens whose KV is in the blocks
    matched: int = 0  # of these, found and not computed here
    root_at: int = 0  # from here on its KV is published, under a root that names what is before
    blocks: mempool.Blocks = field(default_factory=mempool.Blocks)  # pinned, in token order
    logits: list[np.ndarray] = field(default_factory=list)
    moving: mempool.Transfer | None = None
    bytes_moved: int = 0
    network_calls: int = 0
    handed_over: bool = False  # the target has the KV
    finished: bool = False  # the answer was told
    cancelled: bool = False
    error: mempool.Error | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def prefilled(self) -> bool:
        return self.computed >= len(self.request.prompt)

    @property
    def complete(self) -> bool:
        return len(self.tokens) == len(self.request.prompt) + self.request.answer

    @property
    def blocks_needed(self) -> int:
        """Blocks for all that is computed here. The last token of an answer never is."""
        decoded = 0 if self.request.target else max(self.request.answer - 1, 0)
        return -(-(len(self.request.prompt) + decoded) // UNIT)


class Engine:
    """Computes requests on a pool, and says what becomes of them. Thread: confined.

    `tell` gets the messages of reference_engine.messages; `watch(transfer, then)` has to call
    `then` between two steps once the transfer has ended.
    """

    def __init__(self, model: Llama, pool: mempool.Pool, spec: mempool.ContentSpec, policy: Policy,
                 tell: Callable[[Any], None],
                 watch: Callable[[mempool.Transfer, Callable[[], None]], None]):
        self.model, self.pool, self.policy, self.tell, self.watch = model, pool, policy, tell, watch
        self.pages = model.array(np.asarray(pool.segment()))
        self._spec, self._content = spec, pool.content(spec)
        self._waiting: deque[Sequence] = deque()  # for blocks
        self._running: list[Sequence] = []
        self._sequences: dict[int, Sequence] = {}  # these, and those whose transfer has to end
        self._arrived: dict[int, mempool.Arrival] = {}  # before their Resume
        self._awaited: dict[int, Resume] = {}  # before their KV
        self._dropped: set[int] = set()  # cancelled before their KV came

    # ---- requests ----
    def submit(self, request: Request) -> None:
        """Take a request. One that cannot be served is told as Failed, and why."""
        if words := self._refusal(request):
            self.tell(Failed(request.number, words))
        else:
            self._wait(Sequence(request, list(request.prompt)))

    def resume(self, resume: Resume) -> None:
        """Go on with a request whose KV arrives, or has arrived."""
        self._awaited[resume.request.number] = resume
        self._pair(resume.request.number)

    def cancel(self, number: int, kv_comes: bool) -> None:
        """Forget a request, if it is here. Its blocks are back when Cancelled is told."""
        sequence = self._sequences.get(number)
        if sequence is not None:
            sequence.cancelled = True
            self._leave_steps(sequence)
            if sequence.moving is None:
                self._end(sequence)
            else:
                sequence.moving.cancel()  # once nothing reads or writes its blocks, it ends
        elif self._awaited.pop(number, None):
            if kv_comes:
                self._dropped.add(number)
            self.tell(Cancelled(number, handed_over=False))

    def receive(self) -> None:
        """Take all KV that has arrived."""
        while True:
            try:
                arrival = self.pool.receive(0)
            except mempool.DeadlineExceeded:
                return
            number = arrival.request_id
            if arrival.user_data == RETURNED or number in self._dropped:
                self._dropped.discard(number)
                self.pool.unpin(arrival.blocks)
            else:
                self._arrived[number] = arrival
                self._pair(number)

    def _refusal(self, request: Request) -> str:
        """Say why a request cannot be served; empty when it can."""
        config, length = self.model.config, len(request.prompt) + request.answer
        room = min(config.max_position_embeddings, len(self.pages) * UNIT)
        if not request.prompt:
            return "the prompt has no tokens; give at least 1"
        for position, token in enumerate(request.prompt):
            if not 0 <= token < config.vocab_size:
                return (f"token {token} at position {position} is not in the vocabulary; give 0 to "
                        f"{config.vocab_size - 1}")
        if length > room:
            return (f"{len(request.prompt)} tokens and an answer of {request.answer} are {length}, "
                    f"of at most {room}; shorten the prompt")
        return ""

    def _pair(self, number: int) -> None:
        """Go on with a request when both its KV and the word to go on are here."""
        if number not in self._awaited or number not in self._arrived:
            return
        resume, arrival = self._awaited.pop(number), self._arrived.pop(number)
        prompt = resume.request.prompt
        sequence = Sequence(replace(resume.request, target=""), [*prompt, *resume.said],
                            resume.computed, blocks=arrival.blocks)
        if resume.computed < len(prompt):
            sequence.root_at = resume.computed
        self._wait(sequence)

    def _wait(self, sequence: Sequence) -> None:
        self._sequences[sequence.request.number] = sequence
        self._waiting.append(sequence)

    # ---- steps ----
    @property
    def patience_s(self) -> float | None:
        """Seconds until the next step, where nothing happens before; None: there is none to do."""
        if self._running:
            return 0.0
        return RETRY_S if self._waiting else None

    def step(self) -> None:
        """Compute some tokens of the sequences whose turn it is."""
        self._admit()
        work = list(self._schedule())
        ends = [sequence for sequence, unit in work if unit.wants_logits and sequence.moving]
        logits = self.model.forward([unit for _, unit in work], self.pages,
                                    lambda layer: self._send_layer(ends, layer))
        for (sequence, unit), row in zip(work, logits):
            sequence.computed = unit.first + len(unit.tokens)
            if row is not None and sequence.error is None:
                self._attempt(sequence, lambda: self._advance(sequence, row))

    def _admit(self) -> None:
        """Begin with those that wait, in their order, as far as there are blocks."""
        while self._waiting and len(self._sequences) - len(self._waiting) < BATCH_MOST:
            sequence = self._waiting.popleft()
            try:
                self._begin(sequence)
            except mempool.ResourceExhausted as full:
                if time.monotonic() - sequence.since < WAIT_MOST_S:
                    self._waiting.appendleft(sequence)
                    return
                self._end(sequence, full)
            except mempool.Error as error:
                self._end(sequence, error)

    def _schedule(self) -> Iterator[tuple[Sequence, Unit]]:
        """Give a token of each sequence that decodes, and a chunk of those that prefill."""
        room = CHUNK // UNIT
        for sequence in sorted(self._running, key=lambda one: not one.prefilled):
            begin, rows = sequence.computed, sequence.blocks.indices
            while begin < len(sequence.tokens) and (room > 0 or sequence.prefilled):
                end = min(begin // UNIT * UNIT + UNIT, len(sequence.tokens))
                yield sequence, Unit(sequence.tokens[begin:end], begin, rows[:begin // UNIT + 1],
                                     wants_logits=end == len(sequence.tokens))
                begin, room = end, room - (not sequence.prefilled)

    def _advance(self, sequence: Sequence, logits: np.ndarray) -> None:
        """Go on from the logits of the last token that is known."""
        request = sequence.request
        prefill_ends = sequence.computed == len(request.prompt)
        if request.answer > 0:
            token = int(np.argmax(logits))
            sequence.tokens.append(token)
            if prefill_ends:
                self.tell(FirstToken(request.number, token, logits, sequence.matched))
            else:
                sequence.logits.append(logits)
        if prefill_ends and self.policy.reuse:
            self._publish(sequence)
        if request.target:
            sequence.moving.commit()
            self._leave_steps(sequence)  # it ends with the transfer
        elif sequence.complete:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        sequence.finished = True
        self._leave_steps(sequence)
        answer = sequence.tokens[len(sequence.tokens) - len(sequence.logits):]
        self.tell(Finished(sequence.request.number, tuple(answer), sequence.logits))
        if self.policy.keep:
            self._publish(sequence)
        if not self.policy.give_back_to:
            self._end(sequence)
            return
        whole = sequence.computed // UNIT
        back = self.pool.transfer_with_insert(
            self.policy.give_back_to, self._content, sequence.tokens[:whole * UNIT],
            sequence.blocks[:whole], user_data=RETURNED, deadline=DEADLINE_S)
        self._follow(sequence, back, lambda report: self._end(sequence))

    def _attempt(self, sequence: Sequence, act: Callable[[], None]) -> None:
        """Act for a sequence; where mempool refuses, the sequence ends and says why."""
        try:
            act()
        except mempool.Error as error:
            self._leave_steps(sequence)
            if sequence.moving is None:
                self._end(sequence, error)
            else:
                sequence.error = error
                sequence.moving.cancel()  # nothing may read or write its blocks when it ends

    def _leave_steps(self, sequence: Sequence) -> None:
        for place in (self._running, self._waiting):
            if sequence in place:
                place.remove(sequence)

    def _end(self, sequence: Sequence, error: mempool.Error | None = None) -> None:
        """Give all blocks back, and say how it ended."""
        number, error = sequence.request.number, sequence.error or error
        self._leave_steps(sequence)
        del self._sequences[number]
        self.pool.unpin(sequence.blocks)
        if sequence.finished or not (sequence.cancelled or error):
            self.tell(Settled(number, sequence.bytes_moved, sequence.network_calls))
        elif sequence.cancelled:
            self.tell(Cancelled(number, sequence.handed_over))
        else:
            self.tell(Failed(number, str(error)))

    # ---- what is asked of the pool ----
    def _begin(self, sequence: Sequence) -> None:
        """Find what is cached, have blocks for the rest, and offer all of it to the target."""
        if self.policy.reuse and not sequence.blocks:
            self._use_cached(sequence, self.pool.match(self._content, sequence.tokens).blocks)
            if sequence.request.gather_from:
                self._gather(sequence)
                return
        missing = sequence.blocks_needed - len(sequence.blocks)
        if missing > 0:
            fresh = self.pool.alloc(missing)
            sequence.blocks += fresh
            for page in fresh.indices:
                self.pages[page] = 0  # what a page has beyond its tokens must be finite
        if sequence.request.target:
            self._offer(sequence)
        if sequence.prefilled and sequence.complete:
            self._finish(sequence)  # it came with an answer of one token
        else:
            self._running.append(sequence)

    def _use_cached(self, sequence: Sequence, found: mempool.Blocks) -> None:
        """Use whole blocks of what was found, but compute the last token: it has the logits."""
        usable = (len(sequence.tokens) - 1) // UNIT - len(sequence.blocks)
        self.pool.unpin(found[usable:])
        sequence.blocks += found[:usable]
        sequence.computed = sequence.matched = len(sequence.blocks) * UNIT

    def _gather(self, sequence: Sequence) -> None:
        """Pull what continues the KV found here from another instance; then it waits again."""
        sequence.root_at, request = sequence.computed, sequence.request
        sequence.request = replace(request, gather_from="")
        pull = self.pool.fetch(request.gather_from,
                               self._content_after(sequence.tokens[:sequence.root_at]),
                               sequence.tokens[sequence.root_at:], deadline=DEADLINE_S)

        def gathered(report: mempool.TransferReport) -> None:
            self._use_cached(sequence, report.serving)
            self._waiting.appendleft(sequence)

        self._follow(sequence, pull, gathered)

    def _offer(self, sequence: Sequence) -> None:
        """Begin the transfer of a prompt's KV, which is yet to be computed."""
        request = sequence.request
        options = {"mode": mempool.TransferMode.BY_LAYER, "request_id": request.number,
                   "deadline": DEADLINE_S}
        if self.policy.insert_at_target:
            offer = self.pool.transfer_with_insert(request.target, self._content, sequence.tokens,
                                                   sequence.blocks, **options)
        else:
            places = self.pool.alloc(len(sequence.blocks), mempool.Medium.HOST, request.target,
                                     DEADLINE_S)
            offer = self.pool.transfer(request.target, sequence.blocks, places, **options)
        self._follow(sequence, offer, lambda report: self._end(sequence))

    def _send_layer(self, sequences: list[Sequence], layer: int) -> None:
        """Hand a layer over, of the prompts whose last chunk has just passed it."""
        for sequence in sequences:
            if sequence.error is None:
                self._attempt(sequence, lambda: sequence.moving.send_layers(layer, 1))

    def _publish(self, sequence: Sequence) -> None:
        """Make the whole blocks computed so far matchable."""
        whole, root_at = sequence.computed // UNIT, sequence.root_at
        self.pool.insert(self._content_after(sequence.tokens[:root_at]),
                         sequence.tokens[root_at:whole * UNIT],
                         sequence.blocks[root_at // UNIT:whole])

    def _content_after(self, before: list[int]) -> mempool.Content:
        """Name KV that depends on tokens which are not in the prompt it is published under."""
        if not before:
            return self._content
        root = hashlib.sha256(np.asarray(before, dtype="<u4").tobytes()).digest()
        return self.pool.content(replace(self._spec, root=root))

    def _follow(self, sequence: Sequence, transfer: mempool.Transfer,
                then: Callable[[mempool.TransferReport], None]) -> None:
        """Go on with a sequence when its transfer has ended well; else it ends."""
        def ended() -> None:
            sequence.moving = None
            try:
                transfer.wait()
            except mempool.Error as error:
                sequence.error = sequence.error or error
            else:
                sequence.handed_over = sequence.prefilled and bool(sequence.request.target)
                sequence.bytes_moved += transfer.report().bytes
                sequence.network_calls += transfer.report().network_calls
            if sequence.error is not None or sequence.cancelled:
                self._end(sequence)
            else:
                then(transfer.report())

        sequence.moving = transfer
        self.watch(transfer, ended)
