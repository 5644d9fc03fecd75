# SPDX-License-Identifier: Apache-2.0
"""Owns the words of kv_connector_extra_config, and the agent's options that follow from them."""
from dataclasses import dataclass, field, fields
from typing import Any

from mempool.vllm_shape import KvShape, refuse


@dataclass(frozen=True)
class Settings:
    """What kv_connector_extra_config says; docs/vllm.md explains each word."""

    name: str | None = None
    blocks: int | None = None
    wait: float = 30.0  # seconds
    deadline: float | None = None  # seconds
    agent: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(extra: dict[str, Any]) -> "Settings":
        """Read the words. Raise ValueError for one that nobody knows, or that is of no use."""
        known = [one.name for one in fields(Settings)]
        unknown = [word for word in extra if word not in known]
        if unknown:
            refuse(f"kv_connector_extra_config has {unknown[0]!r}, which is no setting",
                   f"its settings are {', '.join(known)}")
        for word, kinds, what in (
                ("name", str, "a string"), ("blocks", int, "a number of blocks"),
                ("wait", (int, float), "seconds"), ("deadline", (int, float), "seconds"),
                ("agent", dict, "an object")):
            value = extra.get(word)
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
                refuse(f"{word!r} of kv_connector_extra_config is {value!r}", f"give {what}")
        return Settings(**{word: value for word, value in extra.items() if value is not None})


def rank_address(address: str, rank: int) -> str:
    """Give a data-parallel rank's own address: each has a port, those behind the given one."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or port == "0":
        return address
    return f"{host}:{int(port) + rank}"


def agent_options(vllm_config: Any, shape: KvShape, socket: str) -> dict[str, Any]:
    """Give the agent's options: those of kv_connector_extra_config's "agent", and our own."""
    transfer = vllm_config.kv_transfer_config
    settings = Settings.of(transfer.kv_connector_extra_config)
    blocks = settings.blocks or shape.blocks
    adopted = blocks + shape.blocks  # vLLM's own are blocks of the pool, too
    given = dict(settings.agent)
    if given.get("max_blocks", adopted) < adopted:
        refuse(f"the agent's max_blocks is {given['max_blocks']}, and the pool has {blocks} blocks "
               f"and vLLM {shape.blocks}", f"give at least {adopted}")
    name = settings.name or f"vllm-{transfer.engine_id}"
    parallel = vllm_config.parallel_config
    if parallel.data_parallel_size > 1:
        name += f"-dp{parallel.data_parallel_rank}"
        for door in ("listen", "admin"):
            if isinstance(given.get(door), str):
                given[door] = rank_address(given[door], parallel.data_parallel_rank)
    return {
        "name": name,
        "max_blocks": adopted + blocks,  # leaves room for the pool to grow
        **given,
        "content": shape.content_spec(),
        "placement": shape.placement(),
        "shards": shape.shards,
        "segment_blocks": [blocks],
        "engine_socket": socket,
        "deliver_arrivals": False,  # what arrives is found by match
    }
