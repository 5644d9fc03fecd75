# SPDX-License-Identifier: Apache-2.0
"""Owns the waiting of asyncio: for the end of a transfer, and for an arrival."""
import asyncio
import os

from mempool._mempool import Arrival, Pool, Transfer, TransferReport
from mempool.errors import DeadlineExceeded


async def _readable(descriptor: int) -> None:
    """Wait for a descriptor as one of several that may: a loop knows each number once."""
    loop = asyncio.get_running_loop()
    own = os.dup(descriptor)
    ready = asyncio.Event()
    try:
        loop.add_reader(own, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(own)
    finally:
        os.close(own)


async def ended(transfer: Transfer) -> TransferReport:
    """Give the report of a transfer once it ended; raise how, unless well."""
    if not transfer.done():
        await _readable(transfer.fileno())
    transfer.wait()
    return transfer.report()


async def arrived(pool: Pool) -> Arrival:
    """Give the next arrival. Several may wait: each gets another one."""
    while True:
        try:
            return pool.receive(0)
        except DeadlineExceeded:
            await _readable(pool.arrival_descriptor())
