# SPDX-License-Identifier: Apache-2.0
"""Tests the decoder alone: bits that depend on nothing but the tokens, and weights of a folder."""
import json

import numpy as np
import pytest
from serve_demo.proof import empty_pages

from reference_engine import weights
from reference_engine.llama import UNIT, Llama, LlamaConfig, Unit

TINY = weights.RANDOM["tiny"]
PROMPT = np.random.default_rng(7).integers(TINY.vocab_size, size=150).tolist()


@pytest.fixture(scope="module", params=["numpy", "torch"])
def model(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return weights.load("tiny", request.param)


def compute(model, steps, rows, pages):
    """Compute the prompt with as many tokens in each step; give the last logits and the KV."""
    begin = 0
    for tokens in steps:
        units, end = [], begin + tokens
        while begin < end:
            first, begin = begin, min(begin // UNIT * UNIT + UNIT, end)
            units.append(Unit(PROMPT[first:begin], first, rows[:first // UNIT + 1], True))
        logits = model.forward(units, pages)[-1]
    assert begin == len(PROMPT)
    return logits, np.asarray(pages)[rows]


def test_bits_depend_neither_on_the_chunk_nor_on_the_pages(model):
    rows = list(range(10))
    at_once, kv_at_once = compute(model, [150], rows, empty_pages(model, 10))
    scattered = np.random.default_rng(1).permutation(32)[:10].tolist()
    steps = [64, 7, 1, 1, 1, 40] + [1] * 36
    by_parts, kv_by_parts = compute(model, steps, scattered, empty_pages(model, 32))
    assert at_once.tobytes() == by_parts.tobytes()
    assert kv_at_once.tobytes() == kv_by_parts.tobytes()


def test_bits_do_not_depend_on_what_else_is_in_the_batch(model):
    rows = list(range(10))
    alone, _ = compute(model, [150], rows, empty_pages(model, 10))
    pages = empty_pages(model, 20)
    units = []
    for first in range(0, len(PROMPT), UNIT):
        tokens = PROMPT[first:first + UNIT]
        units.append(Unit(tokens, first, [row + 10 for row in rows[:first // UNIT + 1]]))
        units.append(Unit(tokens[::-1], first, rows[:first // UNIT + 1]))
    units[-2].wants_logits = True
    batched = model.forward(units, pages)[-2]
    assert alone.tobytes() == batched.tobytes()


def test_what_a_page_has_beyond_the_tokens_changes_no_bit(model):
    rows, pages = list(range(10)), empty_pages(model, 10)
    clean, _ = compute(model, [150], rows, empty_pages(model, 10))
    pages[9] = 3.5
    dirty, _ = compute(model, [150], rows, pages)
    assert clean.tobytes() == dirty.tobytes()


def test_one_float_of_the_kv_changes_the_logits(model):
    rows, pages = list(range(10)), empty_pages(model, 10)
    clean, _ = compute(model, [150], rows, pages)
    pages[2, 1, 0, 3, 0, 5] *= -1
    wrong = model.forward([Unit(PROMPT[149:], 149, rows, True)], pages)[0]
    assert clean.tobytes() != wrong.tobytes()


def save(folder, tensors, config):
    """Write a model as others do: float32, float16 and bfloat16, in one file."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, values) in tensors.items():
        header[name] = {"dtype": kind, "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    head = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + data)
    (folder / "config.json").write_text(json.dumps(config))


CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": 97, "hidden_size": 64,
          "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}


def test_a_folder_gives_the_model_that_was_saved(tmp_path):
    drawn = weights.random_weights(TINY)
    save(tmp_path, {name: ("F32", values) for name, values in drawn.items()}, CONFIG)
    read, other = weights.load(str(tmp_path)), weights.load("tiny")
    rows = list(range(10))
    logits = [compute(one, [150], rows, empty_pages(one, 10))[0] for one in (read, other)]
    assert logits[0].tobytes() == logits[1].tobytes()


def test_halves_are_read_as_the_floats_they_stand_for(tmp_path):
    floats = np.array([[1.5, -0.25], [3.0, 0.0]], np.float32)
    brain = (floats.view(np.uint32) >> 16).astype(np.uint16)
    save(tmp_path, {"half": ("F16", floats.astype(np.float16)), "brain": ("BF16", brain)}, CONFIG)
    tensors = weights.read_safetensors(tmp_path / "model.safetensors")
    assert all(np.array_equal(tensors[name], floats) for name in ("half", "brain"))


def test_other_element_types_are_refused_by_name(tmp_path):
    save(tmp_path, {"odd": ("I64", np.zeros(2, np.int64))}, CONFIG)
    with pytest.raises(ValueError, match="odd has elements of type I64"):
        weights.read_safetensors(tmp_path / "model.safetensors")


@pytest.mark.parametrize("change, words", [
    ({"architectures": ["MistralForCausalLM"]}, "architecture"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "llama3"),
    ({"attention_bias": True}, "biases"),
    ({"hidden_act": "gelu"}, "gelu"),
])
def test_a_model_of_other_arithmetic_is_refused(tmp_path, change, words):
    save(tmp_path, {}, CONFIG | change)
    with pytest.raises(ValueError, match=words):
        LlamaConfig.read(tmp_path)


def test_a_folder_without_weights_says_what_is_missing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(FileNotFoundError, match="no \\*.safetensors"):
        weights.load(str(tmp_path))


def test_the_engine_of_a_model_is_one_of_two():
    with pytest.raises(ValueError, match="jax"):
        Llama(TINY, weights.random_weights(TINY), "jax")


@pytest.mark.parametrize("change, words", [
    (lambda drawn: drawn.pop("model.layers.1.mlp.up_proj.weight"), "up_proj.weight is not there"),
    (lambda drawn: drawn.update({"model.norm.weight": np.ones(7, np.float32)}),
     "model.norm.weight is of shape \\(7,\\)"),
])
def test_a_folder_without_all_weights_names_the_first_that_differs(tmp_path, change, words):
    drawn = weights.random_weights(TINY)
    change(drawn)
    save(tmp_path, {name: ("F32", values) for name, values in drawn.items()}, CONFIG)
    with pytest.raises(ValueError, match=words):
        weights.load(str(tmp_path))


def test_a_folder_without_a_dimension_is_refused_and_the_rest_is_as_llama_has_it(tmp_path):
    fields = dict(CONFIG)
    del fields["rms_norm_eps"], fields["rope_theta"]
    save(tmp_path, {}, fields)
    read = LlamaConfig.read(tmp_path)
    assert (read.rms_norm_eps, read.rope_theta) == (1e-6, 1e4)
    del fields["hidden_size"]
    save(tmp_path, {}, fields)
    with pytest.raises(ValueError, match="config.json has no hidden_size"):
        LlamaConfig.read(tmp_path)
