# SPDX-License-Identifier: Apache-2.0
"""Decides what a block of vLLM's KV cache is in mempool's words, and refuses what has none.

It reads vLLM's configuration objects by their attributes and imports nothing of vLLM.
"""
import hashlib
import json
from dataclasses import dataclass
from typing import Any, NoReturn

import mempool

ELEMENTS = {
    "float32": mempool.ElementType.FLOAT32,
    "float16": mempool.ElementType.FLOAT16,
    "bfloat16": mempool.ElementType.BFLOAT16,
    "float8_e4m3fn": mempool.ElementType.FLOAT8_E4M3,
    "float8_e5m2": mempool.ElementType.FLOAT8_E5M2,
}
FP8 = {  # what the bytes of an fp8 cache are, by --kv-cache-dtype
    "fp8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}
ORDERS = {  # of a block's page, by vLLM's name for how layers, blocks, heads and tokens nest
    "LBNHC": mempool.TokenOrder.TOKEN_HEAD,
    "BLNHC": mempool.TokenOrder.TOKEN_HEAD,
    "LBHNC": mempool.TokenOrder.HEAD_TOKEN,
    "BLHNC": mempool.TokenOrder.HEAD_TOKEN,
}


@dataclass(frozen=True)
class KvShape:
    """What every block of one instance is: `blocks` pages of `page_bytes` a layer and rank."""

    spec: dict[str, Any]  # fields of ContentSpec that are the same for every request
    order: mempool.TokenOrder
    layers: tuple[str, ...]  # names, in the order of their blocks
    heads: int  # in one rank
    vector_elements: int  # of one head and token: K and behind it V
    element: str  # the name of torch's dtype
    page_bytes: int
    blocks: int
    block_tokens: int
    shards: int
    parts: int

    def content_spec(self, *, adapter: str = "", salt: str = "",
                     root: bytes = b"") -> mempool.ContentSpec:
        return mempool.ContentSpec(**self.spec, adapter=adapter, tenant_salt=salt, root=root)

    def placement(self) -> mempool.Placement:
        return mempool.Placement(form=mempool.BlockForm.DISCRETE, order=self.order)


def refuse(what: str, mend: str) -> NoReturn:
    raise ValueError(f"mempool: {what}; {mend}")


def check_parallel(vllm_config: Any) -> None:
    """Raise ValueError for ways to split a model that one agent's shards do not describe."""
    parallel = vllm_config.parallel_config
    for words, size in (
        ("pipeline stages", parallel.pipeline_parallel_size),
        ("decode context ranks", getattr(parallel, "decode_context_parallel_size", 1)),
        ("prefill context ranks", getattr(parallel, "prefill_context_parallel_size", 1)),
    ):
        if size > 1:
            refuse(f"the model is split over {size} {words}", "give 1, and tensor parallel ranks")
    device = vllm_config.device_config.device_type
    if device != "cpu":
        refuse(f"the KV cache is on {device}, and this release adopts host memory only",
               "run vLLM on a CPU")


def single_spec(kv_cache_config: Any) -> tuple[Any, list[str]]:
    """Give the one attention spec, and its layers. Raise ValueError for hybrid models."""
    groups = kv_cache_config.kv_cache_groups
    if len(groups) != 1:
        kinds = ", ".join(type(group.kv_cache_spec).__name__ for group in groups)
        refuse(f"the model keeps {len(groups)} groups of KV cache layers ({kinds})",
               "serve a model with one kind of attention layer; hybrid models are not supported")
    spec = groups[0].kv_cache_spec
    if not any(kind.__name__ == "FullAttentionSpec" for kind in type(spec).__mro__):
        refuse(f"the layers keep {type(spec).__name__}",
               "serve a model whose layers all keep plain attention")
    if getattr(spec, "non_causal", False):
        refuse("the layers' attention is not causal: a token's KV depends on those behind it, and "
               "no prefix can be shared", "serve a causal model, or leave out the connector")
    packed = [name for name, plain in (
        ("page_size_padded", None), ("num_head_slots", None), ("state_content_bytes", None),
        ("tokens_per_state", 1)) if getattr(spec, name, plain) != plain]
    if packed:
        refuse(f"a block is packed by {', '.join(packed)}",
               "choose a --kv-cache-dtype that keeps one plain vector a head and token")
    return spec, list(groups[0].layer_names)


def element_of(spec: Any, cache_dtype: str) -> mempool.ElementType:
    """Give the element type. Raise ValueError for one that mempool does not know."""
    name = str(spec.dtype).removeprefix("torch.")
    if name == "uint8":
        name = FP8.get(cache_dtype, name)
    if name not in ELEMENTS:
        refuse(f"the KV cache is of {name}", f"choose one of {', '.join(ELEMENTS)}")
    return ELEMENTS[name]


def order_of(vllm_config: Any, kv_cache_config: Any) -> mempool.TokenOrder:
    name = (getattr(kv_cache_config, "kv_cache_layout", None)
            or vllm_config.cache_config.kv_cache_layout)
    name = getattr(name, "name", name)
    if name not in ORDERS:
        refuse(f"the KV cache layout is {name}, in which a block of a layer is no single run",
               f"set VLLM_KV_CACHE_LAYOUT to one of {', '.join(ORDERS)}")
    return ORDERS[name]


def position_encoding(model_config: Any) -> str:
    """Give what the model's configuration says of rotary positions, as canonical JSON."""
    config = getattr(model_config, "hf_text_config", None)
    words = {name: getattr(config, name) for name in (
        "rope_parameters", "rope_theta", "rope_scaling", "partial_rotary_factor")
        if getattr(config, name, None) is not None}
    try:
        return json.dumps(words, sort_keys=True)
    except TypeError as error:  # what has no one name would be another in each process
        refuse(f"the rotary positions of the model's configuration cannot be named ({error}): "
               f"{words}", "give them as plain numbers and words")


def layer_number(name: str) -> tuple[int, str]:
    """Order "model.layers.10.attn" behind "model.layers.9.attn"."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1), name


def shape_of(vllm_config: Any, kv_cache_config: Any) -> KvShape:
    """Give the shape of an instance. Raise ValueError that names what cannot be, and the mend.

    vLLM keeps K and V of a head and token side by side, so a layer's page is one run of vectors of
    2 x head_size elements. mempool's blocks have K and V apart, and are of the same size: each page
    is taken as two halves of opaque bytes. That is exact between instances that split and order a
    page alike, and the content says how they do, so others never meet.
    """
    check_parallel(vllm_config)
    spec, names = single_spec(kv_cache_config)
    model, cache = vllm_config.model_config, vllm_config.cache_config
    ranks = vllm_config.parallel_config.tensor_parallel_size
    order = order_of(vllm_config, kv_cache_config)
    element = element_of(spec, cache.cache_dtype)
    mla = getattr(spec, "head_size_v", spec.head_size) == 0
    if not mla and spec.head_size_v != spec.head_size:
        refuse(f"K has {spec.head_size} elements a head and V {spec.head_size_v}",
               "serve a model where they are equal")
    fields = dict(
        model=model.model, revision=model.revision or "", element=element, layers=len(names),
        tokens_per_block=spec.block_size, position_encoding=position_encoding(model),
        quantization=" ".join((str(model.dtype), str(model.quantization), "packed",
                               order.name, f"tp{ranks}")))
    if mla:
        fields.update(kv_heads=1, mla_rank=spec.head_size)
    else:
        fields.update(kv_heads=max(model.get_total_num_kv_heads(), 1), head_size=spec.head_size)
    vector = spec.head_size if mla else 2 * spec.head_size
    return KvShape(
        spec=fields, order=order, layers=tuple(sorted(names, key=layer_number)),
        heads=spec.num_kv_heads, vector_elements=vector,
        element=str(spec.dtype).removeprefix("torch."), page_bytes=spec.page_size_bytes,
        blocks=kv_cache_config.num_blocks, block_tokens=spec.block_size, shards=ranks,
        parts=1 if mla else 2)


def request_root(request: Any) -> bytes:
    """Name what a request's KV depends on beside its tokens: which images or sounds are where."""
    features = getattr(request, "mm_features", None) or ()
    if not features:
        return b""
    digest = hashlib.sha256()
    for feature in features:
        place = feature.mm_position
        digest.update(f"{feature.identifier}@{place.offset}+{place.length};".encode())
    return digest.digest()


def request_key(request: Any) -> tuple[str, str, bytes] | None:
    """Give adapter, salt and root of a request, or None for one whose KV no tokens can name."""
    if getattr(request, "prompt_embeds", None) is not None:
        return None
    lora = getattr(request, "lora_request", None)
    return (lora.lora_name if lora else "", request.cache_salt or "", request_root(request))
