# SPDX-License-Identifier: Apache-2.0
"""Maps vLLM's connector interface onto the scheduler's side and a rank's side.

Loads are asynchronous, and whole requests are stored when they end, so the hooks of single layers
have nothing to do: an attention kernel never waits for mempool. A running request has nothing under
way that reads or writes its blocks, so preemption needs no fence.
"""
from dataclasses import dataclass
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from mempool.vllm_shape import shape_of
from mempool.vllm_rank import RankSide
from mempool.vllm_scheduler import SchedulerSide, Step


@dataclass
class MempoolMetadata(KVConnectorMetadata):
    """What the scheduler tells the ranks with one step."""

    step: Step


class MempoolConnector(KVConnectorBase_V1):
    """Keeps vLLM's KV in mempool: a cache behind its own, and prefill apart from decode."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        shape = shape_of(vllm_config, kv_cache_config)
        self.scheduler: SchedulerSide | None = None
        self.rank: RankSide | None = None
        if role == KVConnectorRole.SCHEDULER:
            self.scheduler = SchedulerSide(vllm_config, shape)
        else:
            self.rank = RankSide(vllm_config, shape)

    @classmethod
    def supports_sleep_mode(cls, kv_transfer_config: Any) -> bool:
        """Tell that it cannot: the agent has the tensors mapped."""
        return False

    def shutdown(self) -> None:
        side, self.scheduler, self.rank = self.scheduler or self.rank, None, None
        if side is not None:
            side.close()

    # ---- scheduler ----

    def get_num_new_matched_tokens(self, request: Any,
                                   num_computed_tokens: int) -> tuple[int | None, bool]:
        return self.scheduler.find(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Any, blocks: Any,
                                 num_external_tokens: int) -> None:
        self.scheduler.load(request, blocks.get_block_ids()[0], num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        return MempoolMetadata(self.scheduler.next_step())

    def update_connector_output(self, connector_output: Any) -> None:
        self.scheduler.take_output(connector_output.finished_recving or set(),
                                   connector_output.finished_sending or set())

    def has_pending_block_frees(self) -> bool:
        return self.scheduler.frees_soon()

    def request_finished(self, request: Any,
                         block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        return self.scheduler.finish(request, block_ids)

    def reset_cache(self) -> bool:
        self.scheduler.reset()
        return True

    # ---- worker ----

    def get_mem_pool_context(self) -> Any:
        return self.rank.memory

    def register_kv_caches(self, kv_caches: dict[str, Any]) -> None:
        self.rank.register(kv_caches)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        self.rank.begin(self._get_connector_metadata().step)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Return at once: a request is scheduled when all of its layers are loaded."""

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any,
                      **kwargs: Any) -> None:
        """Return at once: the scheduler's side stores a request when it has ended."""

    def wait_for_save(self) -> None:
        """Return at once: on a CPU all KV of a step lies in the tensors when its forward ends."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str], set[str]]:
        return self.rank.ended()

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self.rank.failed()
