# SPDX-License-Identifier: Apache-2.0
"""Owns where a decoder's weights come from: drawn, or a folder with a LlamaForCausalLM."""
import hashlib
import json
import mmap
from pathlib import Path

import numpy as np

from reference_engine.llama import Llama, LlamaConfig

ELEMENTS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 is float32's upper half
RANDOM = {"small": LlamaConfig(), "tiny": LlamaConfig(97, 64, 96, 2, 4, 2, 16)}  # to be drawn
SEED = 1
INITIALIZER_RANGE = 0.2  # so large that one wrong block changes what is said, most of the time


def shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Give the shapes of weights, named as in LlamaForCausalLM; projections have (out, in)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    projections = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner)}
    all_of = {"model.embed_tokens": (config.vocab_size, hidden), "model.norm": (hidden,)}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        all_of |= {prefix + name: shape for name, shape in projections.items()}
        all_of |= {prefix + name: (hidden,)
                   for name in ("input_layernorm", "post_attention_layernorm")}
    if not config.tie_word_embeddings:
        all_of["lm_head"] = (config.vocab_size, hidden)
    return {f"{name}.weight": shape for name, shape in all_of.items()}


def random_weights(config: LlamaConfig) -> dict[str, np.ndarray]:
    """Draw float32 weights."""
    draws = np.random.default_rng(SEED)
    return {name: np.ones(shape, np.float32) if len(shape) == 1 else
            draws.standard_normal(shape, np.float32) * np.float32(INITIALIZER_RANGE)
            for name, shape in shapes(config).items()}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read a file of tensors as float32: a length, a JSON of dtypes, shapes and places, the bytes.

    Raises ValueError for a tensor of an element type other than F32, F16 and BF16.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        if entry["dtype"] not in ELEMENTS:
            raise ValueError(f"{path}: {name} has elements of type {entry['dtype']}; convert the "
                             f"model to one of {', '.join(ELEMENTS)}")
        flat = np.frombuffer(data[begin:end], ELEMENTS[entry["dtype"]])
        if entry["dtype"] == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = flat.astype(np.float32).reshape(entry["shape"])
    return tensors


def load(source: str, engine: str = "numpy") -> Llama:
    """Make a decoder that is named in RANDOM, or one of a folder.

    Raises FileNotFoundError for a folder without weights, ValueError for another kind of model.
    """
    if config := RANDOM.get(source):
        weights = random_weights(config)
    else:
        config, weights = LlamaConfig.read(Path(source)), {}
        for file in sorted(Path(source).glob("*.safetensors")):
            weights |= read_safetensors(file)
        if not weights:
            raise FileNotFoundError(f"{source}: has no *.safetensors; save the model in that form")
        for name, shape in shapes(config).items():
            if name not in weights or weights[name].shape != shape:
                has = f"of shape {weights[name].shape}" if name in weights else "not there"
                raise ValueError(f"{source}: {name} is {has}, config.json says {shape}")
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return Llama(config, weights, engine)


def name_of(source: str, config: LlamaConfig) -> tuple[str, str]:
    """Give model and revision as a ContentSpec has them: equal words mean equal weights."""
    if source in RANDOM:
        return f"{source} random Llama", f"{SEED} {config}"
    digest = hashlib.sha256(repr(config).encode())
    for file in sorted(Path(source).glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return "LlamaForCausalLM", digest.hexdigest()
