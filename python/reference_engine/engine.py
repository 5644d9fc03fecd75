# SPDX-License-Identifier: Apache-2.0
"""Owns an engine: sequences whose KV lies in mempool's blocks, and the steps that compute them.

The pool's one segment, seen as an array, is the paged KV cache, and a block's index is its page.
What the engine asks of the pool is all here: `match` (or `fetch`) and `alloc` when a sequence
begins, `send_layers` and `commit` with the last chunk of its prefill, `insert` when that or the
answer is complete, `unpin` at the end, whichever it is.
"""
import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import mempool
import numpy as np

from reference_engine.llama import UNIT, Llama, Unit
from reference_engine.messages import (Cancelled, Failed, Finished, FirstToken, Policy, Request,
                                       Resume, Settled)

BATCH_MOST = 16  # sequences under way, of which some only wait for a transfer to end
CHUNK = 64  # tokens that a step prefills at most
DEADLINE_S = 120.0  # of a transfer, which lasts as long as the prefill whose KV it sends
PLACES_S = 1.0  # for places at a target: the one call of an engine that blocks its whole loop
RETRY_S = 0.01  # at least, between two looks for blocks
WAIT_MOST_S = 60.0  # for blocks, here or there; a pool that gives none for so long is too small
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
    places: mempool.Blocks = field(default_factory=mempool.Blocks)  # held for them at the target
    logits: list[np.ndarray] = field(default_factory=list)
    moving: mempool.Transfer | None = None
    bytes_moved: int = 0
    network_calls: int = 0
    done: bool = False  # the answer was told, or the target has the KV
    cancelled: bool = False
    error: mempool.Error | None = None
    refused_at: float = 0.0  # when it first found no blocks
    again_at: float = 0.0  # when to look again

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
        self._check_shape()
        self._spec, self._content = spec, pool.content(spec)
        self._waiting: deque[Sequence] = deque()  # for blocks
        self._running: list[Sequence] = []
        self._sequences: dict[int, Sequence] = {}  # these, and those whose transfer has to end
        self._arrived: dict[int, mempool.Arrival] = {}  # before their Resume
        self._awaited: dict[int, Resume] = {}  # before their KV
        self._dropped: set[int] = set()  # cancelled before their KV came, if ever it does

    def _check_shape(self) -> None:
        """Refuse a pool whose pages are not the decoder's: it would read other heads' KV."""
        config, layout = self.model.config, self.pool.layout()
        needs = {"segments": 1, "shards": 1, "order": mempool.TokenOrder.TOKEN_HEAD,
                 "layers": config.num_hidden_layers, "parts": 2, "tokens": UNIT,
                 "heads": config.num_key_value_heads, "head size": config.head_dim}
        has = (self.pool.segments, self.pool.shards, layout.order, *self.pages.shape[1:])
        for (what, needed), given in zip(needs.items(), has):
            if given != needed:
                raise mempool.InvalidArgument(
                    mempool.StatusCode.INVALID_ARGUMENT, f"{what} of the pool: this engine needs "
                    f"{needed}, not {given}; start its agent accordingly")

    # ---- requests ----
    def submit(self, request: Request) -> None:
        """Take a request. One that cannot be served is told as Failed, and why."""
        if words := self._refusal(request):
            self.tell(Failed(request.number, words))
        else:
            sequence = self._sequences[request.number] = Sequence(request, list(request.prompt))
            self._waiting.append(sequence)

    def resume(self, resume: Resume) -> None:
        """Go on with a request whose KV arrives, or has arrived."""
        self._awaited[resume.request.number] = resume
        self._pair(resume.request.number)

    def cancel(self, number: int) -> None:
        """Forget a request, if it is here. Its blocks are back when Cancelled is told.

        KV that is awaited may come all the same: a cancel at its sender cannot overtake a commit.
        """
        if sequence := self._sequences.get(number):
            sequence.cancelled = True
            self._stop(sequence)
        elif arrival := self._arrived.pop(number, None):
            self.pool.unpin(arrival.blocks)
        elif self._awaited.pop(number, None):
            self._dropped.add(number)
            self.tell(Cancelled(number))

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
        if request.answer < 0:
            return f"an answer of {request.answer} tokens; give 0 or more"
        if request.gather_from and not self.policy.reuse:
            return f"nothing is gathered from {request.gather_from} where nothing is reused"
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
        self._sequences[number] = sequence
        self._waiting.appendleft(sequence)  # those that hold blocks go first

    # ---- steps ----
    @property
    def patience_s(self) -> float | None:
        """Seconds until the next step, where nothing happens before; None: there is none to do."""
        if self._running:
            return 0.0
        if self._waiting:
            return max(RETRY_S, self._waiting[0].again_at - time.monotonic())
        return None

    def step(self) -> None:
        """Compute some tokens of the sequences whose turn it is."""
        self._admit()
        work = list(self._schedule())
        ends = [sequence for sequence, unit in work if unit.wants_logits and sequence.moving]
        logits = self.model.forward([unit for _, unit in work], self.pages,
                                    lambda layer: self._send_layer(ends, layer))
        for (sequence, unit), row in zip(work, logits):
            sequence.computed = unit.first + len(unit.tokens)
            if row is not None:
                try:
                    self._advance(sequence, row)
                except mempool.Error as error:
                    sequence.error = error
                    self._stop(sequence)

    def _admit(self) -> None:
        """Begin with those that wait, in their order, as far as there are blocks."""
        while (self._waiting and self._waiting[0].again_at <= time.monotonic()
               and len(self._sequences) - len(self._waiting) < BATCH_MOST):
            sequence = self._waiting.popleft()
            try:
                self._begin(sequence)
            except (mempool.ResourceExhausted, mempool.DeadlineExceeded) as full:
                self._wait_for_blocks(sequence, full)
            except mempool.Error as error:
                self._end(sequence, error)

    def _wait_for_blocks(self, sequence: Sequence, full: mempool.Error) -> None:
        """Have it wait before all others, with what it has; at last it fails."""
        now = time.monotonic()
        sequence.refused_at = sequence.refused_at or now
        sequence.again_at = now + max(RETRY_S, full.retry_after_ms / 1000)
        if now - sequence.refused_at < WAIT_MOST_S:
            self._waiting.appendleft(sequence)
        else:
            self._end(sequence, full)

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
            self._commit(sequence)
            self._leave_steps(sequence)  # it ends with the transfer
        elif sequence.complete:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        sequence.done = True
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

    def _stop(self, sequence: Sequence) -> None:
        """End a sequence, once nothing reads or writes its blocks any more."""
        self._leave_steps(sequence)
        if sequence.moving is None:
            self._end(sequence)
        else:
            sequence.moving.cancel()

    def _leave_steps(self, sequence: Sequence) -> None:
        for place in (self._running, self._waiting):
            if sequence in place:
                place.remove(sequence)

    def _end(self, sequence: Sequence, error: mempool.Error | None = None) -> None:
        """Give all blocks back, and say how it ended."""
        number, error = sequence.request.number, sequence.error or error
        self._leave_steps(sequence)
        del self._sequences[number]
        with contextlib.suppress(mempool.Unavailable):  # of an agent that has gone, blocks and all
            self.pool.unpin(sequence.blocks)
        if sequence.places:
            with contextlib.suppress(mempool.Error):  # of a target that has gone likewise
                self.pool.free(sequence.places)
        if sequence.done:
            self.tell(Settled(number, sequence.bytes_moved, sequence.network_calls))
        elif sequence.cancelled:
            self.tell(Cancelled(number))
        else:
            self.tell(Failed(number, str(error)))

    # ---- what is asked of the pool ----
    def _begin(self, sequence: Sequence) -> None:
        """Find what is cached, have blocks for the rest, and offer all of it to the target."""
        if self.policy.reuse and not sequence.blocks:
            self._use_cached(sequence, self.pool.match(self._content, sequence.tokens).blocks)
            if sequence.request.gather_from and self._gather(sequence):
                return
        self._take_missing(sequence)
        if sequence.request.target:
            self._offer(sequence)
        if sequence.prefilled and sequence.request.target:  # it was refused when all was computed
            for layer in range(self.model.config.num_hidden_layers):
                self._send_layer([sequence], layer)
            self._commit(sequence)
        elif sequence.prefilled and sequence.complete:
            self._finish(sequence)  # it came with an answer of one token, or none
        else:
            self._running.append(sequence)

    def _take_missing(self, sequence: Sequence) -> None:
        """Have blocks for all that is to be computed. Without them it holds nothing found, either:
        two that wait for each other's pins would wait for ever."""
        missing = sequence.blocks_needed - len(sequence.blocks)
        if missing <= 0:
            return
        try:
            fresh = self.pool.alloc(missing)
        except mempool.ResourceExhausted:
            if sequence.matched:
                self.pool.unpin(sequence.blocks)
                sequence.blocks = mempool.Blocks()
                sequence.computed = sequence.matched = sequence.root_at = 0
            raise
        sequence.blocks += fresh
        for page in fresh.indices:
            self.pages[page] = 0  # what a page has beyond its tokens must be finite

    def _use_cached(self, sequence: Sequence, found: mempool.Blocks) -> None:
        """Use whole blocks of what was found, but compute the last token: it has the logits."""
        usable = (len(sequence.tokens) - 1) // UNIT - len(sequence.blocks)
        self.pool.unpin(found[usable:])
        sequence.blocks += found[:usable]
        sequence.computed = sequence.matched = len(sequence.blocks) * UNIT

    def _gather(self, sequence: Sequence) -> bool:
        """Begin to pull what continues the KV found here, where that is a block or more.

        Then it waits again. What does not come is computed: a cache that fails fails no request.
        """
        found, request = sequence.computed, sequence.request
        if len(sequence.tokens) <= found + UNIT:
            return False
        sequence.request = replace(request, gather_from="")
        try:
            pull = self.pool.fetch(request.gather_from,
                                   self._content_after(sequence.tokens[:found]),
                                   sequence.tokens[found:], deadline=DEADLINE_S)
        except mempool.Error:
            return False

        def gathered(report: mempool.TransferReport) -> None:
            self._use_cached(sequence, report.serving)
            sequence.root_at = found if sequence.computed > found else 0
            go_on()

        def go_on(error: mempool.Error | None = None) -> None:
            if sequence.cancelled:
                self._end(sequence)
            else:
                self._waiting.appendleft(sequence)

        self._follow(sequence, pull, gathered, go_on)
        return True

    def _offer(self, sequence: Sequence) -> None:
        """Begin the transfer of a prompt's KV, which is yet to be computed, or was refused."""
        request = sequence.request
        options = {"mode": mempool.TransferMode.BY_LAYER, "request_id": request.number,
                   "deadline": DEADLINE_S}
        if self.policy.insert_at_target:
            offer = self.pool.transfer_with_insert(request.target, self._content, sequence.tokens,
                                                   sequence.blocks, **options)
        else:
            sequence.places = sequence.places or self.pool.alloc(
                len(sequence.blocks), mempool.Medium.HOST, request.target, PLACES_S)
            offer = self.pool.transfer(request.target, sequence.blocks, sequence.places, **options)

        def handed_over(report: mempool.TransferReport) -> None:
            sequence.done, sequence.places = True, mempool.Blocks()
            self._end(sequence)

        def refused(error: mempool.Error) -> None:
            if not error.retry_after_ms:
                sequence.places = mempool.Blocks()  # they were the transfer's
            over = sequence.cancelled or sequence.error
            if isinstance(error, mempool.ResourceExhausted) and not over:
                self._leave_steps(sequence)
                self._wait_for_blocks(sequence, error)
            else:
                self._end(sequence, error)

        self._follow(sequence, offer, handed_over, refused)

    def _send_layer(self, sequences: list[Sequence], layer: int) -> None:
        """Hand a layer over, of the prompts whose last chunk has just passed it.

        By layer a transfer moves a layer of all its blocks at once, so none goes before that.
        """
        for sequence in sequences:
            with contextlib.suppress(mempool.Unavailable):  # its end says why
                sequence.moving.send_layers(layer, 1)

    def _commit(self, sequence: Sequence) -> None:
        with contextlib.suppress(mempool.Unavailable):  # as above
            sequence.moving.commit()

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
                then: Callable[[mempool.TransferReport], None],
                failed: Callable[[mempool.Error], None] | None = None) -> None:
        """Go on with a sequence when its transfer has ended; badly, and it is over by default."""
        def ended() -> None:
            sequence.moving = None
            try:
                transfer.wait()
            except mempool.Error as error:
                (failed or partial(self._end, sequence))(error)
                return
            report = transfer.report()
            sequence.bytes_moved += report.bytes
            sequence.network_calls += report.network_calls
            then(report)

        sequence.moving = transfer
        self.watch(transfer, ended)
