# SPDX-License-Identifier: Apache-2.0
"""Owns the front: two instances in one of the settings, and the requests between them and users."""
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Self

import numpy as np

from reference_engine import instance
from reference_engine.conversations import Conversation
from reference_engine.instance import Setup
from reference_engine.llama import UNIT
from reference_engine.messages import (AskStatus, Cancel, Cancelled, Failed, Finished, FirstToken,
                                       Policy, Request, Resume, Settled)


@dataclass(frozen=True)
class Setting:
    """Which instance does what."""

    name: str
    stage: str | None  # the paper's word for it; None: each instance prefills and decodes
    first: Policy = Policy()
    second: Policy = Policy()

    def __str__(self) -> str:
        return self.stage or self.name

    @property
    def instances(self) -> tuple[str, str]:
        return ("prefill", "decode") if self.stage else ("first", "second")


CACHING = Policy(reuse=True, keep=True)
SENDING = Policy(reuse=True, insert_at_target=True)
SETTINGS = (
    Setting("colocated", None),
    Setting("colocated_caching", None, CACHING, CACHING),
    Setting("disaggregated", "PD-Basic"),
    Setting("disaggregated_caching", "PD-Caching-1", Policy(reuse=True)),
    Setting("disaggregated_caching", "PD-Caching-2", SENDING, Policy(keep=True)),
    Setting("disaggregated_caching", "PD-Caching-3", SENDING,
            Policy(keep=True, give_back_to="prefill")),
)


@dataclass(eq=False)
class Outcome:
    """What became of a request. Times in seconds since it was submitted."""

    request: Request
    holder: int  # the instance that has it: the one that got it, then the target
    split: int  # tokens of the prompt that the holder prefills; the target does the others
    submitted: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    logits: list[np.ndarray] = field(default_factory=list)
    matched: int = 0
    first_token_s: float = 0.0
    finished_s: float = 0.0
    bytes_moved: int = 0
    network_calls: int = 0
    unsettled: int = 1  # instances that still have to do with it
    cancelling: bool = False
    cancelled: bool = False
    error: str = ""

    @property
    def target_blocks(self) -> int:
        """Blocks that it takes at its target, answer and all."""
        tokens = len(self.request.prompt) + self.request.answer
        return -(-tokens // UNIT) if self.request.target else 0


class Front:
    """Two instances, started and joined. Thread: confined."""

    def __init__(self, setting: Setting, setups: Iterable[Setup]):
        """Start them: the two setups say everything but names and policies.

        Raises RuntimeError with an instance's own words where it cannot start.
        """
        self.setting = setting
        policies = (setting.first, setting.second)
        self.setups = [replace(setup, name=name, policy=policy) for setup, name, policy
                       in zip(setups, setting.instances, policies)]
        self._numbers = itertools.count(1)
        self._queue: deque[Outcome] = deque()  # which no instance knows yet
        self._open: dict[int, Outcome] = {}
        self.processes, self._pipes = zip(*map(instance.start, self.setups))
        try:
            peers = [self._receive(index) for index in range(len(self._pipes))]
            for index, peer in itertools.product(range(len(self._pipes)), peers):
                self._send(index, peer)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Stop both, whatever they are at."""
        for pipe in self._pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()

    # ---- requests ----
    def submit(self, prompt: tuple[int, ...], answer: int, index: int = 0,
               gather_from: str = "") -> Outcome:
        """Ask an instance for an answer, to be decoded by the other where they are apart."""
        target = self.setting.instances[1] if self.setting.stage else ""
        request = Request(next(self._numbers), prompt, answer, target, gather_from)
        return self._take(Outcome(request, index, len(prompt), unsettled=2 if target else 1))

    def prefill_split(self, prompt: tuple[int, ...], split: int) -> Outcome:
        """Have the KV of `split` tokens made by the first instance and the rest by the second."""
        request = Request(next(self._numbers), prompt, 0, self.setting.instances[1])
        return self._take(Outcome(request, 0, split, unsettled=2))

    def cancel(self, outcome: Outcome) -> None:
        """Take a request back; it is settled when its holder has no block of it."""
        outcome.cancelling = True
        if outcome in self._queue:
            self._queue.remove(outcome)
            outcome.cancelled, outcome.unsettled = True, 0
        else:
            self._send(outcome.holder, Cancel(outcome.request.number))

    def status(self) -> list[dict[str, Any]]:
        """Give both agents' status. Requires: no request is open; last words are passed over."""
        for index in range(len(self._pipes)):
            self._send(index, AskStatus())
        return [next(word for word in iter(partial(self._receive, index), None)
                     if isinstance(word, dict)) for index in range(len(self._pipes))]

    def settle(self, *outcomes: Outcome) -> None:
        """Hear the instances until nothing of these requests is under way."""
        while any(outcome.unsettled for outcome in outcomes):
            self.hear()

    def converse(self, conversations: Iterable[Conversation], at_once: int,
                 done: Callable[[Outcome], None]) -> dict[tuple[int, int], Outcome]:
        """Play conversations, some at once. Gives outcomes by (conversation, turn).

        The next turn of one comes when the last one is settled: users think for longer than KV
        takes on its way back.
        """
        waiting, playing = deque(conversations), []
        outcomes: dict[tuple[int, int], Outcome] = {}
        while waiting or playing:
            while waiting and len(playing) < at_once:
                playing.append((waiting.popleft(), []))
                self._next_turn(*playing[-1])
            self.hear()
            for conversation, turns in [one for one in playing if not one[1][-1].unsettled]:
                outcomes[conversation.number, len(turns) - 1] = turns[-1]
                done(turns[-1])
                if len(turns) < len(conversation.turns) and not turns[-1].error:
                    self._next_turn(conversation, turns)
                else:
                    playing.remove((conversation, turns))
        return outcomes

    def _next_turn(self, conversation: Conversation, turns: list[Outcome]) -> None:
        prompt = conversation.prompt([tuple(turn.tokens) for turn in turns])
        index = 0 if self.setting.stage else conversation.number % 2
        turns.append(self.submit(prompt, conversation.answers[len(turns)], index))

    def _take(self, outcome: Outcome) -> Outcome:
        self._queue.append(outcome)
        self._admit()
        return outcome

    def _admit(self) -> None:
        """Ask for what waits, in order, as far as targets have room for all of it.

        A target has to hold each prompt that comes, and needs blocks for the answers besides; were
        all its blocks prompts, none of them could ever be finished.
        """
        while self._queue:
            outcome, taken = self._queue[0], sum(one.target_blocks for one in self._open.values())
            if taken and taken + outcome.target_blocks > self.setups[1].blocks:
                return
            request = outcome.request
            self._open[request.number] = self._queue.popleft()
            self._send(outcome.holder, replace(request, prompt=request.prompt[:outcome.split]))
            if request.target and not request.answer:  # there will be no first token
                self._send(1, Resume(request, outcome.split))

    # ---- answers ----
    def hear(self) -> None:
        """Wait for what the instances say, and act on it."""
        for pipe in wait(self._pipes):
            index = self._pipes.index(pipe)
            message = self._receive(index)
            outcome = self._open.get(message.number)
            if outcome is None:
                continue  # the last words about what has failed elsewhere
            self._note(outcome, message)
            if index == 0 and outcome.request.target:
                self._tell_target(outcome, message)
            if outcome.unsettled == 0:
                del self._open[message.number]
                self._admit()

    def _tell_target(self, outcome: Outcome, message: Any) -> None:
        """Tell the target what it has to know of the words of the instance before it."""
        request = outcome.request
        match message:
            case FirstToken(_, token):
                self._send(1, Resume(request, len(request.prompt), (token,)))
            case Settled():
                outcome.holder = 1
                if outcome.cancelling:
                    self._send(1, Cancel(request.number))
            case Failed() | Cancelled():
                self._send(1, Cancel(request.number))

    @staticmethod
    def _note(outcome: Outcome, message: Any) -> None:
        now = time.monotonic() - outcome.submitted
        match message:
            case FirstToken(_, token, logits, matched):
                outcome.tokens, outcome.logits, outcome.matched = [token], [logits], matched
                outcome.first_token_s = outcome.finished_s = now
            case Finished(_, tokens, logits):
                outcome.tokens += tokens
                outcome.logits += logits
                outcome.finished_s = now
            case Settled(_, bytes_moved, network_calls):
                outcome.bytes_moved += bytes_moved
                outcome.network_calls += network_calls
                outcome.unsettled -= 1
            case Cancelled():
                outcome.cancelled, outcome.unsettled = True, 0
            case Failed(_, error):
                outcome.error, outcome.unsettled = error, 0

    def _send(self, index: int, message: Any) -> None:
        with contextlib.suppress(ConnectionError):  # that it has gone is what _receive() gets
            self._pipes[index].send(message)

    def _receive(self, index: int) -> Any:
        name = self.setups[index].name
        try:
            message = self._pipes[index].recv()
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{name}: the instance has gone; its own words are above") from None
        if isinstance(message, Exception):
            raise message
        return message
