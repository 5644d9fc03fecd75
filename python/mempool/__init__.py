# SPDX-License-Identifier: Apache-2.0
"""A distributed memory pool for the KV cache of LLM serving: the agent embedded, or attached to.

    with mempool.Agent.start(content=spec, segment_blocks=[1024]) as pool:
        blocks = pool.alloc(4)

The same words as C++; help(mempool.Pool) has each call's shapes, units and errors.
"""
import atexit

from mempool._mempool import (
    AdoptedMemory,
    Agent,
    ArrayView,
    Arrival,
    AttachedPool,
    BlockAddress,
    BlockForm,
    BlockLayout,
    Blocks,
    Content,
    ElementType,
    Fence,
    InsertResult,
    Match,
    Medium,
    Pool,
    StatusCode,
    TokenOrder,
    Transfer,
    TransferMode,
    TransferReport,
    _end_callbacks,
    _open_pools,
    attach,
    make_content,
    picks,
    set_log_level,
    version,
)
from mempool.errors import (
    AlreadyExists,
    Cancelled,
    Corruption,
    DeadlineExceeded,
    Error,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Stale,
    Unavailable,
    Unsupported,
)
from mempool.options import AgentOptions, ContentSpec, Placement, TenantOptions

__version__ = version()


@atexit.register
def _end() -> None:
    """End the pools whose threads call back into Python while it still runs."""
    for pool in list(_open_pools):
        pool.close()
    _end_callbacks()


__all__ = [
    "AdoptedMemory",
    "Agent",
    "AgentOptions",
    "AlreadyExists",
    "ArrayView",
    "Arrival",
    "AttachedPool",
    "BlockAddress",
    "BlockForm",
    "BlockLayout",
    "Blocks",
    "Cancelled",
    "Content",
    "ContentSpec",
    "Corruption",
    "DeadlineExceeded",
    "ElementType",
    "Error",
    "Fence",
    "InsertResult",
    "Internal",
    "InvalidArgument",
    "Match",
    "Medium",
    "NotFound",
    "PermissionDenied",
    "Placement",
    "Pool",
    "ResourceExhausted",
    "Stale",
    "StatusCode",
    "TenantOptions",
    "TokenOrder",
    "Transfer",
    "TransferMode",
    "TransferReport",
    "Unavailable",
    "Unsupported",
    "attach",
    "make_content",
    "picks",
    "set_log_level",
    "version",
]
