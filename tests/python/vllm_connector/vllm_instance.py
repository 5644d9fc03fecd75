# SPDX-License-Identifier: Apache-2.0
"""Owns one vLLM instance without its model: its real scheduler, block pool and connectors, and
tensors of ours in which each token's KV is a function of all tokens up to it.

Each step fills the KV of the scheduled tokens as a model would and then looks at all KV of each
scheduled request, as attention would: a block that is not what its tokens say fails at once.
"""
import json
import os
import pathlib
import time

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import numpy as np
import torch
from vllm.config import (
    CacheConfig,
    DeviceConfig,
    KVTransferConfig,
    ModelConfig,
    ParallelConfig,
    SchedulerConfig,
    VllmConfig,
)
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    KVCacheTensor,
)
from vllm.v1.kv_cache_layout import KVCacheLayout
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.worker.utils import allocate_kv_cache

BLOCK = 16
LAYERS = 2
HEADS = 2
HEAD_SIZE = 8
DTYPE = torch.float16
NAMES = [f"model.layers.{layer}.self_attn.attn" for layer in range(LAYERS)]
init_none_hash(sha256)


def write_model(folder: pathlib.Path) -> str:
    """Write the configuration of a small Llama, of which nothing else is read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "num_key_value_heads": HEADS, "head_dim": HEAD_SIZE, "vocab_size": 32000,
        "max_position_embeddings": 4096, "torch_dtype": "float16"}))
    return str(folder)


def make_config(model: str, *, blocks: int, ranks: int = 1, role: str = "kv_both",
                policy: str = "recompute", extra: dict | None = None,
                ahead: bool = False) -> VllmConfig:
    cache = CacheConfig(block_size=BLOCK, enable_prefix_caching=True)
    cache.num_gpu_blocks = blocks
    cache.kv_cache_layout = "LBHNC"
    config = VllmConfig(
        model_config=ModelConfig(model=model, skip_tokenizer_init=True, dtype="float16", seed=0),
        cache_config=cache,
        parallel_config=ParallelConfig(),
        scheduler_config=SchedulerConfig(
            max_num_seqs=512, max_num_batched_tokens=4096, max_model_len=4096,
            is_encoder_decoder=False, enable_chunked_prefill=True, async_scheduling=ahead),
        device_config=DeviceConfig("cpu"),
        kv_transfer_config=KVTransferConfig(
            kv_connector="MempoolConnector", kv_connector_module_path="mempool.vllm",
            kv_role=role, kv_load_failure_policy=policy, kv_connector_extra_config=extra or {}))
    config.parallel_config.tensor_parallel_size = ranks
    return config


def make_kv_config(blocks: int, ranks: int = 1, layout: KVCacheLayout = KVCacheLayout.LBHNC,
                   block_tokens: int = BLOCK) -> KVCacheConfig:
    spec = FullAttentionSpec(block_size=block_tokens, num_kv_heads=HEADS // ranks,
                             head_size=HEAD_SIZE, dtype=DTYPE)
    page = spec.page_size_bytes
    tensor = KVCacheTensor(size=LAYERS * blocks * page, layers=NAMES, layer_stride=blocks * page,
                           block_stride=page)
    if layout.is_block_outermost:
        tensor.layer_stride, tensor.block_stride = page, LAYERS * page
    return KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[tensor],
                         kv_cache_groups=[KVCacheGroupSpec(NAMES, spec)],
                         kv_cache_layout=layout.name)


def token_states(tokens: list[int]) -> np.ndarray:
    """Give for each position a number that depends on all tokens up to it."""
    states, state = np.empty(len(tokens), dtype=np.int64), 7
    for at, token in enumerate(tokens):
        state = (state * 31 + token + 1) % 65521
        states[at] = state
    return states


def expected_kv(states: np.ndarray, layer: int, first_head: int, heads: int) -> np.ndarray:
    """Give KV [tokens, heads, 2 * head size] of small whole numbers, exact in float16."""
    head = np.arange(first_head, first_head + heads)[None, :, None] * 17
    element = np.arange(2 * HEAD_SIZE)[None, None, :]
    return ((states[:, None, None] + layer * 101 + head + element) % 2039).astype(np.float16)


class Rank:
    """The worker of one rank: its connector and its tensors."""

    def __init__(self, config: VllmConfig, rank: int, ranks: int, kv_config: KVCacheConfig,
                 layout: KVCacheLayout) -> None:
        config.parallel_config.rank = rank
        self.connector = KVConnectorFactory.create_connector(
            config, KVConnectorRole.WORKER, kv_config)
        with self.connector.get_mem_pool_context():
            self.tensors = allocate_kv_cache(kv_config, torch.device("cpu"), layout)
        self.connector.register_kv_caches(self.tensors)
        self.heads = HEADS // ranks
        self.first_head = rank * self.heads

    def compute(self, tokens: list[int], first: int, places: list[int]) -> None:
        """Fill the KV of tokens[first:], and look at that of all."""
        states = token_states(tokens)
        at = np.arange(len(tokens))
        block, slot = np.asarray(places)[at // BLOCK], at % BLOCK
        for layer, name in enumerate(NAMES):
            pages = self.tensors[name].numpy()  # [blocks, heads, tokens, elements]
            wanted = expected_kv(states, layer, self.first_head, self.heads)
            pages[block[first:], :, slot[first:]] = wanted[first:]
            seen = pages[block, :, slot]
            assert np.array_equal(seen, wanted), (
                f"layer {layer}: token {np.nonzero((seen != wanted).any((1, 2)))[0][0]} of "
                f"{len(tokens)} has another's KV")

    def run(self, metadata: object, work: list[tuple], finished: set[str]) -> KVConnectorOutput:
        """One step as vLLM's runner makes it: loads begin after the forward pass."""
        self.connector.bind_connector_metadata(metadata)
        for tokens, first, places in work:
            self.compute(tokens, first, places)
        self.connector.start_load_kv(None)
        self.connector.wait_for_save()
        results = self.connector.get_transfer_results(finished)
        output = KVConnectorOutput(
            finished_sending=results.finished_sending, finished_recving=results.finished_recving,
            failed_recving=results.failed_recving,
            invalid_block_ids=self.connector.get_block_ids_with_load_errors())
        self.connector.clear_connector_metadata()
        return output


class Instance:
    """One instance of as many ranks, in this process unless told otherwise. Use as a context.

    With `ahead` each step is scheduled before the output of the one before is known, as vLLM does
    unless told otherwise.
    """

    def __init__(self, folder: pathlib.Path, name: str, *, blocks: int = 64, ranks: int = 1,
                 layout: KVCacheLayout = KVCacheLayout.LBHNC, agent: dict | None = None,
                 make_ranks: bool = True, ahead: bool = False, **settings: object) -> None:
        extra = {"name": name, "blocks": settings.pop("pool_blocks", 64),
                 "agent": {"listen": "127.0.0.1:0", "transports": ["tcp"], **(agent or {})},
                 "wait": settings.pop("wait", 60.0)}
        config = make_config(write_model(folder / "model"), blocks=blocks, ranks=ranks,
                             extra=extra, ahead=ahead, **settings)
        kv_config = make_kv_config(blocks, ranks, layout)
        self.ranks = [Rank(config, rank, ranks, kv_config, layout)
                      for rank in range(ranks if make_ranks else 0)]
        config.parallel_config.rank = 0
        self.ahead = ahead
        self.scheduler = (AsyncScheduler if ahead else Scheduler)(
            vllm_config=config, kv_cache_config=kv_config, block_size=BLOCK,
            hash_block_size=BLOCK, structured_output_manager=StructuredOutputManager(config),
            log_stats=False)
        self.connector = self.scheduler.connector
        self.aggregator = KVOutputAggregator.from_connector(self.connector, ranks)
        self.hasher = get_request_block_hasher(BLOCK, sha256)
        self.told: dict[str, dict | None] = {}  # kv_transfer_params of those that ended
        self.outputs: dict[str, list[int]] = {}
        self.ended: set[str] = set()
        self.invalid: set[int] = set()
        self.scheduled: dict[str, int] = {}  # tokens that were computed here
        self.tokens: dict[str, list[int]] = {}  # prompt and what was sampled, as a worker has it
        self.running: tuple | None = None  # a step whose output the scheduler has yet to see
        self.free_at_start = self.free_blocks()

    @property
    def agent(self):
        return self.connector.scheduler.agent

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *ignored: object) -> None:
        for rank in self.ranks:
            rank.connector.shutdown()
        self.scheduler.shutdown()

    def free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    def add(self, name: str, tokens: list[int], *, most: int = 1, params: dict | None = None,
            salt: str | None = None) -> Request:
        sampling = SamplingParams(max_tokens=most, ignore_eos=True,
                                  extra_args={"kv_transfer_params": params} if params else None)
        request = Request(name, list(tokens), sampling, None, cache_salt=salt,
                          block_hasher=self.hasher)
        self.tokens[name] = list(tokens)
        self.scheduler.add_request(request)
        return request

    def step(self) -> None:
        scheduled = self.scheduler.schedule()
        begun = scheduled, self._run(scheduled)
        if self.ahead:
            begun, self.running = self.running, begun
        if begun is not None:
            self._take_output(*begun)

    def _run(self, scheduled: object) -> ModelRunnerOutput:
        """Do what the workers do in one step."""
        work, names, sampled = [], [], []
        for name, count in scheduled.num_scheduled_tokens.items():
            last = self.scheduler.requests[name].num_computed_tokens  # counts this step already
            tokens = self.tokens[name][:last]
            (places,) = self.scheduler.kv_cache_manager.get_block_ids(name)
            work.append((tokens, last - count, places))
            names.append(name)
            sampled.append([])
            if last == len(self.tokens[name]):
                sampled[-1].append(int(token_states(tokens)[-1]) % 32000)
                self.tokens[name] += sampled[-1]
            self.scheduled[name] = self.scheduled.get(name, 0) + count
        outputs = []
        for rank in self.ranks:
            seen = rank.run(scheduled.kv_connector_metadata, work, scheduled.finished_req_ids)
            outputs.append(ModelRunnerOutput(
                req_ids=names, req_id_to_index={name: at for at, name in enumerate(names)},
                sampled_token_ids=sampled, kv_connector_output=seen))
        return self.aggregator.aggregate(outputs)

    def _take_output(self, scheduled: object, output: ModelRunnerOutput) -> None:
        self.invalid |= output.kv_connector_output.invalid_block_ids
        for client in self.scheduler.update_from_output(scheduled, output).values():
            for one in client.outputs:
                self.outputs.setdefault(one.request_id, []).extend(one.new_token_ids)
                if one.finish_reason is not None:
                    self.ended.add(one.request_id)
                    self.told[one.request_id] = one.kv_transfer_params

    def run_until(self, reached, seconds: float = 60.0) -> None:
        """Step until a condition holds; the limit is a last resort."""
        limit = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < limit, "it never came about"
            self.step()
            time.sleep(0.001)  # lets the threads of the agents run

    def complete(self, *names: str) -> None:
        self.run_until(lambda: self.ended.issuperset(names))

    def settle(self) -> None:
        """Step until nothing of any ended request is held."""
        self.run_until(lambda: not self.scheduler.requests)
        self.step()

    def abort(self, name: str) -> None:
        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def serve(self, name: str, tokens: list[int], **settings: object) -> list[int]:
        self.add(name, tokens, **settings)
        self.complete(name)
        return self.outputs[name]

    def forget_own_cache(self) -> None:
        """Have vLLM's own prefix cache forget all, so that only mempool can serve."""
        self.settle()
        assert self.scheduler.kv_cache_manager.reset_prefix_cache()
