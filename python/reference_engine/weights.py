# SPDX-License-Identifier: Apache-2.0
"""Owns where a decoder's weights come from: a seed, or a folder with a LlamaForCausalLM."""
from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path

import numpy as np

from reference_engine.llama import Llama, LlamaConfig

INITIALIZER_RANGE = 0.2  # so large that one wrong block changes what is said, most of the time


def random_weights(config: LlamaConfig, seed: int) -> dict[str, np.ndarray]:
    """Draw float32 weights, named as in LlamaForCausalLM; projections have shape (out, in)."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape, dtype=np.float32) * np.float32(INITIALIZER_RANGE)

    def ones() -> np.ndarray:
        return np.ones(config.hidden_size, dtype=np.float32)

    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    weights = {"model.embed_tokens.weight": normal(config.vocab_size, hidden),
               "model.norm.weight": ones()}
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "input_layernorm.weight": ones(),
            prefix + "self_attn.q_proj.weight": normal(queries, hidden),
            prefix + "self_attn.k_proj.weight": normal(keys, hidden),
            prefix + "self_attn.v_proj.weight": normal(keys, hidden),
            prefix + "self_attn.o_proj.weight": normal(hidden, queries),
            prefix + "post_attention_layernorm.weight": ones(),
            prefix + "mlp.gate_proj.weight": normal(inner, hidden),
            prefix + "mlp.up_proj.weight": normal(inner, hidden),
            prefix + "mlp.down_proj.weight": normal(hidden, inner),
        }
    tied = config.tie_word_embeddings
    weights["lm_head.weight"] = (weights["model.embed_tokens.weight"] if tied
                                 else normal(config.vocab_size, hidden))
    return weights


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
        match entry["dtype"]:
            case "F32" | "F16" as dtype:
                flat = np.frombuffer(data[begin:end], dtype="<f4" if dtype == "F32" else "<f2")
            case "BF16":
                halves = np.frombuffer(data[begin:end], dtype="<u2").astype(np.uint32)
                flat = (halves << 16).view(np.float32)  # bfloat16 is float32's upper half
            case dtype:
                raise ValueError(f"{path}: {name} has elements of type {dtype}; convert the model "
                                 "to F32, F16 or BF16")
        tensors[name] = flat.astype(np.float32).reshape(entry["shape"])
    return tensors


def read_weights(folder: Path, config: LlamaConfig) -> dict[str, np.ndarray]:
    """Read all *.safetensors of a folder. Raises FileNotFoundError where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: has no *.safetensors; save the model in that form")
    weights = {}
    for file in files:
        weights |= read_safetensors(file)
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def load(source: str, engine: str = "numpy", config: LlamaConfig | None = None) -> Llama:
    """Make a decoder of a folder, or of a seed where `source` is a number in decimal."""
    if source.isdecimal():
        config = config or LlamaConfig()
        return Llama(config, random_weights(config, int(source)), engine)
    folder = Path(source)
    config = LlamaConfig.read(folder)
    return Llama(config, read_weights(folder, config), engine)


def name_of(source: str, config: LlamaConfig) -> tuple[str, str]:
    """Give model and revision as a ContentSpec has them: equal words mean equal weights."""
    if source.isdecimal():
        return f"random-llama-{source}", repr(config)
    digest = hashlib.sha256()
    for file in sorted(Path(source).glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"LlamaForCausalLM {repr(config)}", digest.hexdigest()
