# SPDX-License-Identifier: Apache-2.0
"""Owns the process of one instance: an engine, the agent it embeds, and the loop over both."""
import contextlib
import multiprocessing
import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import mempool

from reference_engine import weights
from reference_engine.engine import Engine
from reference_engine.llama import UNIT, LlamaConfig
from reference_engine.messages import AskStatus, Cancel, Peer, Policy, Request, Resume


@dataclass(frozen=True)
class Setup:
    """All that an instance starts from."""

    name: str
    policy: Policy
    model: str = "small"  # or "tiny", or a folder with a LlamaForCausalLM
    engine: str = "numpy"
    transport: str = "shm"
    transport_options: dict[str, str] = field(default_factory=dict)  # "verbs.devices": "mlx5_0"
    blocks: int = 640  # of the pool
    verify: str = "sampled"


def content_spec(model: str, config: LlamaConfig) -> mempool.ContentSpec:
    """Name the KV of a model: two instances share it only where all of this is equal."""
    name, revision = weights.name_of(model, config)
    return mempool.ContentSpec(model=name, revision=revision, layers=config.num_hidden_layers,
                               kv_heads=config.num_key_value_heads, head_size=config.head_dim,
                               element=mempool.ElementType.FLOAT32, tokens_per_block=UNIT)


def start_agent(setup: Setup, spec: mempool.ContentSpec) -> mempool.Agent:
    """Start the agent of an instance, with one segment of blocks, in this process."""
    return mempool.Agent.start(
        name=setup.name, content=spec, segment_blocks=[setup.blocks],
        transports=[setup.transport], require=[setup.transport], verify=setup.verify,
        transport_options=setup.transport_options)


class Instance:
    """The loop of an instance: messages, arrivals, ends of transfers, steps. Thread: confined."""

    def __init__(self, setup: Setup, front: Connection):
        model = weights.load(setup.model, setup.engine)
        spec = content_spec(setup.model, model.config)
        self._front, self._agent = front, start_agent(setup, spec)
        self._engine = Engine(model, self._agent, spec, setup.policy, front.send, self._watch)
        self._selector = selectors.DefaultSelector()
        self._listen(self._agent.arrival_descriptor(), self._engine.receive)
        self._listen(front.fileno(), self._obey)
        self._stopped = False

    def run(self) -> None:
        """Serve until the front closes its end of the pipe, or is gone."""
        self._front.send(Peer(self._agent.name, self._agent.listen))
        while not self._stopped:
            for key, _ in self._selector.select(self._engine.patience_s):
                key.data()
            self._engine.step()
        self._agent.close()

    def _listen(self, descriptor: int, then: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, then)

    def _watch(self, transfer: mempool.Transfer, then: Callable[[], None]) -> None:
        descriptor = transfer.fileno()

        def ended() -> None:
            self._selector.unregister(descriptor)
            then()

        self._listen(descriptor, ended)

    def _obey(self) -> None:
        try:
            message = self._front.recv()
        except (EOFError, ConnectionError):
            self._stopped = True
            return
        match message:
            case Request():
                self._engine.submit(message)
            case Resume():
                self._engine.resume(message)
            case Cancel(number):
                self._engine.cancel(number)
            case Peer(name, address):
                self._agent.add_peer(name, address)
            case AskStatus():
                self._front.send(self._agent.status())


def serve(setup: Setup, front: Connection) -> None:
    """Be an instance; its first words are where it is, or the exception that ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the front ends it
    try:
        instance = Instance(setup, front)
    except (mempool.Error, OSError, ValueError, ImportError) as error:
        front.send(RuntimeError(f"{setup.name}: {error}"))
        return
    with contextlib.suppress(BrokenPipeError):  # the front is gone
        instance.run()


def start(setup: Setup) -> tuple[multiprocessing.Process, Connection]:
    """Start an instance as a process of its own, never as a fork: an agent has threads."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(setup, theirs), name=setup.name, daemon=True)
    process.start()
    theirs.close()
    return process, ours
