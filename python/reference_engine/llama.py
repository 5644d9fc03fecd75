# SPDX-License-Identifier: Apache-2.0
"""Owns the decoder: Llama's forward pass over KV that lies in pages, the same for numpy and torch.

The grain of all arithmetic is a `Unit`: the rows of one token block, always UNIT of them, whatever
is asked of it. A token at position p is row p % UNIT of a unit, be it prefilled with its neighbours
or decoded alone, and sees keys of whole blocks only. So each matrix product has a shape that
depends on the position alone, and the bits of a result depend neither on the batch, nor on the
chunk, nor on whether the KV before it was computed here, found in a cache or sent by a peer.
"""
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

UNIT = 16  # tokens of a block, and rows of a unit

Array = Any  # numpy.ndarray or torch.Tensor


@dataclass(frozen=True)
class LlamaConfig:
    """The fields of a LlamaForCausalLM's config.json that decide its arithmetic."""

    vocab_size: int = 512
    hidden_size: int = 256
    intermediate_size: int = 688
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read config.json. Raises ValueError for a model that is not this decoder."""
        fields = json.loads((folder / "config.json").read_text())
        rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        refused = {
            "its architecture": "LlamaForCausalLM" not in fields.get("architectures", []),
            f"rope of type {kind}": kind != "default",
            "biases": bool(fields.get("attention_bias") or fields.get("mlp_bias")),
            f"activation {fields.get('hidden_act')}": fields.get("hidden_act", "silu") != "silu",
        }
        for what, is_refused in refused.items():
            if is_refused:
                raise ValueError(f"{folder}: {what} is not that of a plain LlamaForCausalLM")
        for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                     "num_attention_heads"):
            if name not in fields:
                raise ValueError(f"{folder}: config.json has no {name}")
        heads = fields["num_attention_heads"]
        fields["rope_theta"] = rope.get("rope_theta", fields.get("rope_theta", cls.rope_theta))
        fields.setdefault("num_key_value_heads", heads)
        fields.setdefault("rms_norm_eps", 1e-6)  # the other defaults are LlamaForCausalLM's, too
        if not fields.get("head_dim"):
            fields["head_dim"] = fields["hidden_size"] // heads
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass
class Unit:
    """Some tokens of one block of one sequence, to be computed."""

    tokens: Sequence[int]  # those at positions first, first + 1, ...; all in one block
    first: int  # position of the first of them
    rows: Sequence[int]  # pages of the sequence, up to the one that these tokens fill
    wants_logits: bool = False  # of the last token


class Llama:
    """A decoder whose weights are arrays of `xp`, numpy or torch. Thread: serialized."""

    def __init__(self, config: LlamaConfig, weights: dict[str, np.ndarray], engine: str = "numpy"):
        self.config = config
        if engine not in ("numpy", "torch"):
            raise ValueError(f"engine {engine} is not known; give numpy or torch")
        self.xp = importlib.import_module(engine)
        if engine == "torch":
            self.xp.set_num_threads(1)
        self._weights = {name: self.array(weight) for name, weight in weights.items()}
        half = config.head_dim // 2
        steps = np.arange(half, dtype=np.float32) * 2 / config.head_dim
        turns = np.float32(1) / np.float32(config.rope_theta) ** steps
        angles = np.arange(config.max_position_embeddings, dtype=np.float32)[:, None] * turns
        self._cos = self.array(np.cos(angles)[:, None, :])  # (positions, 1, head_dim / 2)
        self._sin = self.array(np.sin(angles)[:, None, :])
        later = np.triu(np.ones((UNIT, UNIT), dtype=bool), 1)
        self._causal = self.array(np.where(later, -np.inf, 0).astype(np.float32))

    def array(self, values: np.ndarray) -> Array:
        """Give an array of numpy as one of this engine's, over the same memory."""
        return values if self.xp is np else self.xp.from_numpy(values)

    def forward(self, units: Sequence[Unit], pages: Array,
                after_layer: Callable[[int], None] = lambda layer: None) -> list[np.ndarray | None]:
        """Compute units, whose KV goes into their pages.

        Units of one sequence come in the order of their positions. `pages` has the shape
        (pages, layers, 2, UNIT, kv_heads, head_dim); what lies beyond a sequence's tokens in its
        last page must be finite. `after_layer(i)` is called when all KV of layer i is there.
        Gives float32 logits of shape (vocab,) for each unit that wants them, else None.
        """
        config, weight = self.config, self._weights
        states = [weight["model.embed_tokens.weight"][self._padded(unit)] for unit in units]
        for layer in range(config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            normed = [self._norm(state, prefix + "input_layernorm") for state in states]
            queries = [self._keep_kv(unit, x, layer, pages) for unit, x in zip(units, normed)]
            for i, unit in enumerate(units):
                states[i] = states[i] + self._attend(unit, queries[i], layer, pages)
                states[i] = states[i] + self._feed_forward(states[i], prefix)
            after_layer(layer)
        return [self._logits(unit, state) for unit, state in zip(units, states)]

    def _padded(self, unit: Unit) -> Array:
        ids = np.zeros(UNIT, dtype=np.int64)
        begin = unit.first % UNIT
        ids[begin:begin + len(unit.tokens)] = unit.tokens
        return self.array(ids)

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[name + ".weight"].T

    def _norm(self, x: Array, name: str) -> Array:
        mean = self.xp.mean(x * x, axis=-1, keepdims=True)
        return x / self.xp.sqrt(mean + self.config.rms_norm_eps) * self._weights[name + ".weight"]

    def _turn(self, x: Array, unit: Unit) -> Array:
        """Rotate (UNIT, heads, head_dim) by the positions of the unit's block."""
        block = slice(unit.first // UNIT * UNIT, unit.first // UNIT * UNIT + UNIT)
        cos, sin = self._cos[block], self._sin[block]
        half = self.config.head_dim // 2
        left, right = x[..., :half], x[..., half:]
        return self.xp.concatenate([left * cos - right * sin, right * cos + left * sin], -1)

    def _keep_kv(self, unit: Unit, x: Array, layer: int, pages: Array) -> Array:
        """Write the keys and values of the unit's tokens to its page; give its queries."""
        name = f"model.layers.{layer}.self_attn."
        shape = (UNIT, -1, self.config.head_dim)
        begin = unit.first % UNIT
        rows = slice(begin, begin + len(unit.tokens))
        page = pages[unit.rows[-1], layer]
        page[0, rows] = self._turn(self._linear(x, name + "k_proj").reshape(shape), unit)[rows]
        page[1, rows] = self._linear(x, name + "v_proj").reshape(shape)[rows]
        return self._turn(self._linear(x, name + "q_proj").reshape(shape), unit)

    def _attend(self, unit: Unit, query: Array, layer: int, pages: Array) -> Array:
        xp, heads, size = self.xp, self.config.num_key_value_heads, self.config.head_dim
        rows = self.array(np.asarray(unit.rows, dtype=np.int64))
        keys = pages[:, layer, 0][rows].reshape(-1, heads, size)  # the gather of paged attention
        values = pages[:, layer, 1][rows].reshape(-1, heads, size)
        grouped = xp.moveaxis(query.reshape(UNIT, heads, -1, size), 0, 2)  # (heads, group, UNIT, .)
        flat = grouped.reshape(heads, -1, size)
        scores = flat @ xp.moveaxis(keys, 0, 2) * np.float32(size ** -0.5)
        scores.reshape(heads, -1, UNIT, len(keys))[..., -UNIT:] += self._causal
        scores = xp.exp(scores - xp.amax(scores, -1, keepdims=True))
        scores = scores / xp.sum(scores, axis=-1, keepdims=True)
        seen = (scores @ xp.moveaxis(values, 0, 1)).reshape(heads, -1, UNIT, size)
        joined = xp.moveaxis(seen, 2, 0).reshape(UNIT, -1)
        return self._linear(joined, f"model.layers.{layer}.self_attn.o_proj")

    def _feed_forward(self, x: Array, prefix: str) -> Array:
        x = self._norm(x, prefix + "post_attention_layernorm")
        gate = self._linear(x, prefix + "mlp.gate_proj")
        gate = gate * (0.5 + 0.5 * self.xp.tanh(0.5 * gate))  # SiLU, which overflows nowhere so
        up = self._linear(x, prefix + "mlp.up_proj")
        return self._linear(gate * up, prefix + "mlp.down_proj")

    def _logits(self, unit: Unit, state: Array) -> np.ndarray | None:
        if not unit.wants_logits:
            return None
        state = self._norm(state, "model.norm")
        last = (unit.first + len(unit.tokens) - 1) % UNIT
        return np.asarray(self._linear(state, "lm_head")[last]).copy()
