# SPDX-License-Identifier: Apache-2.0
"""Tests what a block of vLLM's is in mempool's words; needs no vllm."""
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

import mempool
from mempool.vllm_settings import rank_address
from mempool.vllm_shape import layer_number, request_key, shape_of


@dataclass(frozen=True)
class FullAttentionSpec:
    """Has the fields of vLLM's that are looked at."""

    block_size: int = 16
    num_kv_heads: int = 4
    head_size: int = 64
    head_size_v: int = 64
    dtype: str = "torch.bfloat16"
    page_size_padded: int | None = None
    num_head_slots: int | None = None
    state_content_bytes: int | None = None
    tokens_per_state: int = 1
    non_causal: bool = False

    @property
    def page_size_bytes(self) -> int:
        return self.block_size * self.num_kv_heads * (self.head_size + self.head_size_v) * 2


class MambaSpec:
    pass


def make_configs(spec=FullAttentionSpec(), *, layout="LBHNC", ranks=1, device="cpu", groups=1,
                 **parallel):
    names = ["model.layers.1.attn", "model.layers.0.attn"]
    model = SimpleNamespace(
        model="org/model", revision=None, dtype="torch.bfloat16", quantization=None,
        hf_text_config=SimpleNamespace(rope_theta=1e4), get_total_num_kv_heads=lambda: 4 * ranks)
    vllm_config = SimpleNamespace(
        model_config=model,
        cache_config=SimpleNamespace(cache_dtype="auto", kv_cache_layout=None),
        device_config=SimpleNamespace(device_type=device),
        parallel_config=SimpleNamespace(**{"tensor_parallel_size": ranks,
                                           "pipeline_parallel_size": 1, **parallel}))
    kv_config = SimpleNamespace(
        num_blocks=32, kv_cache_layout=layout,
        kv_cache_groups=[SimpleNamespace(kv_cache_spec=spec, layer_names=names)] * groups)
    return vllm_config, kv_config


def name_of(configs, **changes) -> str:
    return mempool.make_content(shape_of(*configs).content_spec(**changes)).id


def test_a_block_is_as_large_as_vllms_page_in_each_layer_and_rank():
    shape = shape_of(*make_configs())
    with mempool.Agent.start(name="shape", listen="127.0.0.1:0", content=shape.content_spec(),
                             placement=shape.placement(), segment_blocks=[4]) as agent:
        assert agent.layout().block_bytes == 2 * shape.page_bytes
    assert shape.layers == ("model.layers.0.attn", "model.layers.1.attn")


def test_latent_attention_is_one_vector_of_each_token():
    spec = FullAttentionSpec(num_kv_heads=1, head_size=576, head_size_v=0)
    shape = shape_of(*make_configs(spec))
    assert (shape.spec["mla_rank"], shape.parts, shape.vector_elements) == (576, 1, 576)


def test_whatever_changes_kv_changes_its_name():
    names = [
        name_of(make_configs()), name_of(make_configs(layout="LBNHC")),
        name_of(make_configs(replace(FullAttentionSpec(), dtype="torch.float16"))),
        name_of(make_configs(), adapter="lora"), name_of(make_configs(), salt="tenant"),
        name_of(make_configs(), root=b"image"), name_of(make_configs(ranks=2))]
    configs = make_configs()
    configs[0].model_config.hf_text_config.rope_theta = 5e5
    names.append(name_of(configs))
    configs = make_configs()
    configs[0].model_config.quantization = "fp8"
    names.append(name_of(configs))
    assert len(set(names)) == len(names)


def test_how_a_cache_type_is_spelt_changes_no_name():
    configs = make_configs()
    configs[0].cache_config.cache_dtype = "bfloat16"
    assert name_of(configs) == name_of(make_configs())


def test_rotary_positions_without_a_name_are_refused():
    configs = make_configs()
    configs[0].model_config.hf_text_config.rope_scaling = object()
    with pytest.raises(ValueError, match="rotary positions"):
        shape_of(*configs)


def test_each_data_parallel_rank_has_a_port_of_its_own():
    assert rank_address("10.0.0.5:7070", 3) == "10.0.0.5:7073"
    assert rank_address("[::1]:7070", 1) == "[::1]:7071"
    assert rank_address("127.0.0.1:0", 3) == "127.0.0.1:0"


def test_what_a_request_depends_on_is_its_adapter_salt_and_images():
    def request(**fields):
        return SimpleNamespace(**{"prompt_embeds": None, "lora_request": None, "cache_salt": None,
                                  "mm_features": [], **fields})

    def image(name, offset):
        return SimpleNamespace(identifier=name,
                               mm_position=SimpleNamespace(offset=offset, length=8))

    assert request_key(request()) == ("", "", b"")
    assert request_key(request(prompt_embeds=object())) is None
    lora = SimpleNamespace(lora_name="poet")
    assert request_key(request(lora_request=lora, cache_salt="s")) == ("poet", "s", b"")
    roots = {request_key(request(mm_features=features))[2]
             for features in ([image("a", 0)], [image("b", 0)], [image("a", 1)],
                              [image("a", 0), image("b", 9)])}
    assert len(roots) == 4 and b"" not in roots


def test_layers_are_in_the_order_of_their_numbers():
    names = ["model.layers.10.attn", "model.layers.9.attn", "model.layers.2.attn"]
    assert sorted(names, key=layer_number) == names[::-1]


@pytest.mark.parametrize(("configs", "words"), [
    (make_configs(groups=2), "2 groups of KV cache layers"),
    (make_configs(MambaSpec()), "the layers keep MambaSpec"),
    (make_configs(replace(FullAttentionSpec(), dtype="torch.float64")), "is of float64"),
    (make_configs(replace(FullAttentionSpec(), state_content_bytes=100)), "packed by"),
    (make_configs(replace(FullAttentionSpec(), head_size_v=32)), "64 elements a head and V 32"),
    (make_configs(replace(FullAttentionSpec(), non_causal=True)), "attention is not causal"),
    (make_configs(layout="LHBNC"), "VLLM_KV_CACHE_LAYOUT"),
    (make_configs(device="cuda"), "the KV cache is on cuda"),
    (make_configs(pipeline_parallel_size=2), "2 pipeline stages"),
    (make_configs(decode_context_parallel_size=2), "2 decode context ranks"),
])
def test_what_cannot_be_kept_is_refused_with_one_sentence(configs, words):
    with pytest.raises(ValueError, match=words):
        shape_of(*configs)
