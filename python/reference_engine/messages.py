# SPDX-License-Identifier: Apache-2.0
"""Owns what the front and an instance say to each other, and how an instance is to behave."""
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Policy:
    """What an instance does with KV beyond computing it."""

    reuse: bool = False  # looks for each prompt in the pool, and publishes it when prefilled
    keep: bool = False  # publishes prompt and answer when the answer is complete
    insert_at_target: bool = False  # hands over by transfer_with_insert, else by transfer
    give_back_to: str = ""  # the instance that gets the answer's KV, too


@dataclass(frozen=True)
class Request:
    """A prompt, and how many tokens are to answer it."""

    number: int  # unique among all requests; goes along with its transfers
    prompt: tuple[int, ...]
    answer: int  # tokens; 0: only the KV of the prompt is wanted
    target: str = ""  # the instance that goes on when the prompt is prefilled; empty: this one
    gather_from: str = ""  # the instance that has what continues the KV found here


@dataclass(frozen=True)
class Resume:
    """To the target of a request: go on with it when its KV has arrived."""

    request: Request
    computed: int  # tokens of the prompt whose KV arrives
    said: tuple[int, ...] = ()  # tokens of the answer that were generated before


@dataclass(frozen=True)
class Cancel:
    """Forget a request. The answer is Cancelled, or none where it is settled already."""

    number: int


@dataclass(frozen=True)
class Peer:
    """Where an instance's agent listens: its own first words, and what it is told of others."""

    name: str
    address: str


@dataclass(frozen=True)
class AskStatus:
    """Asks for the agent's status, which comes as a dict."""


@dataclass(frozen=True)
class FirstToken:
    """The prompt is prefilled; `matched` tokens of it were not computed here."""

    number: int
    token: int
    logits: np.ndarray  # (vocab,) float32
    matched: int


@dataclass(frozen=True)
class Finished:
    """The answer is complete. Tokens and logits are those after what FirstToken or Resume had."""

    number: int
    tokens: tuple[int, ...]
    logits: list[np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class Settled:
    """This instance has nothing more to do for a request, and holds no block of it."""

    number: int
    bytes_moved: int
    network_calls: int


@dataclass(frozen=True)
class Cancelled:
    """This instance holds no block of the request. Its target may have been quicker."""

    number: int


@dataclass(frozen=True)
class Failed:
    """The request ended with an error; its blocks are given back here."""

    number: int
    error: str
