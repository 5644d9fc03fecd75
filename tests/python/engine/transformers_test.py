# SPDX-License-Identifier: Apache-2.0
"""Tests the decoder against transformers' LlamaForCausalLM, where that is installed."""
import numpy as np
import pytest

from reference_engine import weights
from serve_demo.proof import empty_pages, generate

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("initializer_range", [0.02, 0.2])
@pytest.mark.parametrize("tied", [False, True])
def test_logits_equal_those_of_transformers(tmp_path, engine, initializer_range, tied):
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=301, hidden_size=128, intermediate_size=352, num_hidden_layers=3,
        num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=512,
        initializer_range=initializer_range, tie_word_embeddings=tied, rope_theta=50000.0)
    theirs = transformers.LlamaForCausalLM(config).float().eval()
    theirs.save_pretrained(tmp_path)
    ours = weights.load(str(tmp_path), engine)
    prompt = tuple(np.random.default_rng(2).integers(301, size=203).tolist())
    said = generate(ours, empty_pages(ours, 16), list(range(16)), prompt, 12)
    with torch.no_grad():
        logits = theirs(torch.tensor([prompt + said.tokens[:-1]])).logits[0, len(prompt) - 1:]
    assert np.abs(np.stack(said.logits) - logits.numpy()).max() < 1e-4
