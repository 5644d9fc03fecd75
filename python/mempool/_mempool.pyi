# SPDX-License-Identifier: Apache-2.0
"""Owns the types of the extension; help() on each name has its shapes, units and errors."""
from array import array
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, overload
from weakref import WeakSet

from typing_extensions import Buffer, Self

from mempool.errors import Error
from mempool.options import AgentOptions, ContentSpec, Placement

Tokens = Sequence[int] | Buffer  # or whatever gives uint32, int32 or int64 by __dlpack__
BlockList = Blocks | Sequence[BlockAddress]
Key = bytes | str

class StatusCode(Enum):
    OK = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    ALREADY_EXISTS = 3
    RESOURCE_EXHAUSTED = 4
    UNAVAILABLE = 5
    DEADLINE_EXCEEDED = 6
    UNSUPPORTED = 7
    CANCELLED = 8
    CORRUPTION = 9
    STALE = 10
    PERMISSION_DENIED = 11
    INTERNAL = 12

class Medium(Enum):
    DEVICE = 0
    HOST = 1

class ElementType(Enum):
    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2
    FLOAT8_E4M3 = 3
    FLOAT8_E5M2 = 4
    INT8 = 5

class BlockForm(Enum):
    DISCRETE = 0
    AGGREGATED = 1

class TokenOrder(Enum):
    TOKEN_HEAD = 0
    HEAD_TOKEN = 1

class TransferMode(Enum):
    BY_REQUEST = 0
    BY_LAYER = 1

class Content:
    @property
    def id(self) -> str: ...
    @property
    def model(self) -> str: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

def make_content(spec: ContentSpec) -> Content: ...

class BlockAddress:
    @property
    def incarnation(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def medium(self) -> Medium: ...
    @property
    def index(self) -> int: ...
    @staticmethod
    def from_bytes(data: bytes) -> BlockAddress: ...
    def __bytes__(self) -> bytes: ...
    def __eq__(self, other: object) -> bool: ...
    def __lt__(self, other: BlockAddress) -> bool: ...
    def __hash__(self) -> int: ...

def picks(verify: str, block: BlockAddress) -> bool: ...

class Blocks:
    def __init__(self, addresses: Iterable[BlockAddress] = ()) -> None: ...
    @staticmethod
    def from_bytes(data: bytes) -> Blocks: ...
    @property
    def indices(self) -> array[int]: ...
    def __bytes__(self) -> bytes: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, at: int) -> BlockAddress: ...
    @overload
    def __getitem__(self, at: slice) -> Blocks: ...
    def __iter__(self) -> Iterator[BlockAddress]: ...
    def __contains__(self, address: object) -> bool: ...
    def __add__(self, other: BlockList) -> Blocks: ...
    def __eq__(self, other: object) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]

class BlockLayout:
    __hash__: ClassVar[None]  # type: ignore[assignment]
    layers: int
    parts: int
    heads: int
    tokens: int
    first_layer: int
    first_head: int
    replicated: bool
    order: TokenOrder
    vector_bytes: int
    piece_bytes: int
    block_bytes: int
    block_stride: int
    layer_stride: int
    part_stride: int

class ArrayView(Buffer):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def element(self) -> ElementType: ...
    @property
    def nbytes(self) -> int: ...
    def __dlpack__(self, **options: Any) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class AdoptedMemory:
    def __init__(
        self,
        data: Buffer,
        block_stride: int,
        layer_stride: int,
        part_stride: int,
        descriptor: int = -1,
    ) -> None: ...
    @staticmethod
    def of(tensor: Any, *, descriptor: int = -1) -> AdoptedMemory: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def block_stride(self) -> int: ...
    @property
    def layer_stride(self) -> int: ...
    @property
    def part_stride(self) -> int: ...

class InsertResult:
    @property
    def admitted(self) -> int: ...
    @property
    def serving(self) -> Blocks: ...
    @property
    def duplicates(self) -> Blocks: ...

class Match:
    @property
    def tokens(self) -> int: ...
    @property
    def blocks(self) -> Blocks: ...

class Fence:
    def __init__(self) -> None: ...
    def signal(self) -> None: ...
    def reached(self) -> bool: ...

class TransferReport:
    transport: str
    route: str
    bytes: int
    bytes_saved: int
    tokens: int
    tokens_matched: int
    paper_calls: int
    run_pair_calls: int
    network_calls: int
    system_calls: int | None
    doorbells: int
    completions: int
    prepare_us: float
    post_us: float
    complete_us: float
    serving: Blocks

class Transfer:
    def wait(self, timeout: float | None = None) -> None: ...
    def done(self) -> bool: ...
    def cancel(self) -> None: ...
    def send_layers(self, first: int, count: int, ready: Fence | None = None) -> None: ...
    def commit(self) -> None: ...
    def report(self) -> TransferReport: ...
    def fileno(self) -> int: ...
    def __await__(self) -> Generator[Any, None, TransferReport]: ...

class Arrival:
    source: str
    transfer: int
    request_id: int
    user_data: bytes
    content: Content
    tokens: array[int]
    blocks: Blocks
    last_block_tokens: int
    tokens_matched: int

class Pool:
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def content(self, spec: ContentSpec) -> Content: ...
    def alloc(
        self,
        count: int,
        medium: Medium = Medium.HOST,
        instance: str | None = None,
        deadline: float | None = None,
    ) -> Blocks: ...
    def free(self, blocks: BlockList) -> None: ...
    def pin(self, blocks: BlockList) -> None: ...
    def unpin(self, blocks: BlockList) -> None: ...
    @property
    def shards(self) -> int: ...
    @property
    def segments(self) -> int: ...
    def layout(self, segment: int = 0, shard: int = 0) -> BlockLayout: ...
    def piece(
        self, block: BlockAddress, layer: int, part: int, shard: int = 0
    ) -> ArrayView: ...
    def segment(self, segment: int = 0, shard: int = 0) -> ArrayView: ...
    def segment_of(self, block: BlockAddress) -> tuple[int, int]: ...
    @overload
    def read(self, block: BlockAddress) -> bytes: ...
    @overload
    def read(self, block: BlockAddress, out: Buffer) -> None: ...
    def adopt(
        self,
        name: str,
        shards: Sequence[AdoptedMemory],
        *,
        blocks: int,
        insert_in_place: bool = False,
    ) -> None: ...
    def claim(self, name: str, blocks: Tokens) -> Blocks: ...
    def withdraw(self, name: str, timeout: float = 5.0) -> None: ...
    def insert(self, content: Content, tokens: Tokens, blocks: BlockList) -> InsertResult: ...
    def match(self, content: Content, tokens: Tokens) -> Match: ...
    def erase(self, content: Content, tokens: Tokens) -> int: ...
    def insert_keys(self, keys: Sequence[Key], blocks: BlockList) -> InsertResult: ...
    def match_keys(self, keys: Sequence[Key]) -> Blocks: ...
    def erase_keys(self, keys: Sequence[Key]) -> int: ...
    def transfer_with_insert(
        self,
        target: str,
        content: Content,
        tokens: Tokens,
        blocks: BlockList,
        *,
        mode: TransferMode = TransferMode.BY_REQUEST,
        ready: Fence | None = None,
        deadline: float | None = None,
        medium: Medium = Medium.HOST,
        request_id: int = 0,
        user_data: bytes = b"",
        trace: str = "",
        on_done: Callable[[Error | None], object] | None = None,
    ) -> Transfer: ...
    def transfer(
        self,
        target: str,
        blocks: BlockList,
        places: BlockList,
        *,
        mode: TransferMode = TransferMode.BY_REQUEST,
        ready: Fence | None = None,
        deadline: float | None = None,
        medium: Medium = Medium.HOST,
        request_id: int = 0,
        user_data: bytes = b"",
        trace: str = "",
        on_done: Callable[[Error | None], object] | None = None,
    ) -> Transfer: ...
    def fetch(
        self,
        source: str,
        content: Content,
        tokens: Tokens,
        *,
        mode: TransferMode = TransferMode.BY_REQUEST,
        ready: Fence | None = None,
        deadline: float | None = None,
        medium: Medium = Medium.HOST,
        request_id: int = 0,
        user_data: bytes = b"",
        trace: str = "",
        on_done: Callable[[Error | None], object] | None = None,
    ) -> Transfer: ...
    def receive(self, timeout: float | None = None) -> Arrival: ...
    def arrival(self) -> Awaitable[Arrival]: ...
    def arrival_descriptor(self) -> int: ...
    def add_peer(self, name: str, address: str) -> None: ...

class AttachedPool(Pool): ...

def attach(
    path: str,
    *,
    shard: int = 0,
    shards: int = 1,
    placement: Placement | None = None,
    timeout: float = 5.0,
) -> AttachedPool: ...

class Agent(Pool):
    @staticmethod
    def start(options: AgentOptions | None = None, **fields: Any) -> Agent: ...
    @property
    def name(self) -> str: ...
    @property
    def listen(self) -> str: ...
    def status(self) -> dict[str, Any]: ...
    def metrics(self) -> str: ...
    def drain(self, timeout: float = 30.0) -> None: ...
    def grow(self, blocks: int) -> None: ...
    def shrink(self, timeout: float = 5.0) -> None: ...

_open_pools: WeakSet[Pool]

def _end_callbacks() -> None: ...
def set_log_level(level: str) -> None: ...
def version() -> str: ...
