# SPDX-License-Identifier: Apache-2.0
"""Owns the words that calls take: what KV is, how it lies in memory, and how an agent starts."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mempool._mempool import BlockForm, ElementType, TokenOrder


@dataclass(frozen=True, kw_only=True)
class ContentSpec:
    """Everything that decides what the KV of a token is. Prompts share KV only where all is equal.

    What KV depends on beyond these fields (image hashes, for one) goes into `root`.
    """

    model: str
    layers: int
    kv_heads: int  # 1 when mla_rank is given
    head_size: int = 0  # elements of one head's vector; unused when mla_rank is given
    mla_rank: int = 0  # elements of MLA's one compressed vector; 0: separate K and V
    tokens_per_block: int = 16
    element: ElementType = ElementType.FLOAT16
    quantization: str = ""  # scheme of the KV itself; empty for none
    revision: str = ""
    adapter: str = ""  # LoRA or other adapter; empty for none
    position_encoding: str = ""
    tenant_salt: str = ""  # tenants with different salts never share KV
    root: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where one shard keeps its part of every block, and in what shape. Never part of a key."""

    form: BlockForm = BlockForm.DISCRETE
    order: TokenOrder = TokenOrder.TOKEN_HEAD
    first_layer: int = 0
    layers: int = 0  # 0: all of the content's
    first_head: int = 0
    heads: int = 0  # 0: all of the content's
    replicated: bool = False  # other shards hold the same heads


@dataclass(frozen=True, kw_only=True)
class TenantOptions:
    """What one tenant, known by the salt of its contents, may have of a pool, in blocks."""

    salt: str
    quota_blocks: int = 0  # the most it may have published; 0: no limit
    floor_blocks: int = 0  # its published blocks that no other tenant evicts; 0: none


@dataclass(kw_only=True)
class AgentOptions:
    """How an agent starts. None leaves the agent's own default.

    `mempool agent --print-config` explains each key. Times are seconds.
    """

    content: ContentSpec  # decides the size of a block
    segment_blocks: Sequence[int]  # blocks of each segment of host memory
    name: str | None = None
    listen: str | None = None  # host:port of the control plane; port 0 picks one
    token: str | None = None  # shared secret; needed for any host but loopback
    admin: str | None = None  # host:port of the pages for operators
    transports: Sequence[str] | None = None  # in order of preference
    require: Sequence[str] | None = None  # without which the agent refuses to start
    transport_options: Mapping[str, str] | None = None  # "tcp.streams" and the like
    peers: Mapping[str, str] | None = None  # name -> host:port
    engine_socket: str | None = None  # path where engines of other processes attach
    deliver_arrivals: bool | None = None
    placement: Placement | None = None  # form and order, in every shard
    shards: int | None = None  # tensor-parallel ranks
    max_blocks: int | None = None  # room for block indices, adopted and grown ones too
    huge_pages: str | None = None  # auto | off
    verify: str | None = None  # off | sampled | always
    eviction: str | None = None  # lru | s3fifo | lfu | ttl
    eviction_ttl: float | None = None
    admission: str | None = None  # all | second_hit
    tenants: Mapping[str, TenantOptions] | None = None  # by a name for operators
    max_inbound: int | None = None
    max_outbound: int | None = None
    max_connections: int | None = None
    heartbeat: float | None = None
    peer_timeout: float | None = None
    fence_timeout: float | None = None
    retransmit: float | None = None
    retry_hint: float | None = None
    default_deadline: float | None = None
    incarnation: int | None = None  # drawn at start
