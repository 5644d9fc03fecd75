# SPDX-License-Identifier: Apache-2.0
"""Tests the demo as its users run it: its document, its table, and what makes it fail."""
import json
import os
import pathlib
import subprocess
import sys

import mempool
import pytest
from serve_demo import demo, proof, report
from two_instances import conversations
from wrong_instance import start_wrong

from reference_engine import instance, weights
from reference_engine.instance import Setup
from reference_engine.messages import Policy

ROOT = pathlib.Path(__file__).parents[3]
QUICK = ["--conversations", "2", "--turns", "2", "--at-once", "1"]
STAGES = [("colocated", None), ("colocated_caching", None), ("disaggregated", "PD-Basic"),
          ("disaggregated_caching", "PD-Caching-1"), ("disaggregated_caching", "PD-Caching-2"),
          ("disaggregated_caching", "PD-Caching-3")]


PACKAGE = str(pathlib.Path(mempool.__file__).parents[1])


def run_script(*arguments, **variables):
    environment = {**os.environ, "MEMPOOL_PYTHON": PACKAGE, "MEMPOOL_VENV": sys.prefix, **variables}
    return subprocess.run([ROOT / "scripts" / "serve-demo.sh", *arguments], text=True,
                          capture_output=True, env=environment, check=False)


def test_the_script_prints_the_table_and_writes_what_it_shows(tmp_path):
    path = tmp_path / "demo.json"
    ended = run_script(*QUICK, "--transport", "tcp", "--json", str(path))
    assert ended.returncode == 0, ended.stderr
    document = json.loads(path.read_text())
    assert [(run["setting"], run["stage"]) for run in document["runs"]] == STAGES
    for run in document["runs"]:
        assert run["transport"] == "tcp" and run["logits_equal"] is True
        assert run["ttft_ms"]["min"] <= run["ttft_ms"]["median"] <= run["jct_ms"]["p99"]
        assert (run["bytes_per_request"] > 0) == run["setting"].startswith("disaggregated")
        assert (run["network_calls_per_request"] > 0) == (run["bytes_per_request"] > 0)
        assert (run["hit_ratio"] > 0) == run["setting"].endswith("caching")
    assert document["negative_controls_caught"] == {
        "swapped_block": True, "flipped_float": True, "stale_block": True}
    assert document["sequence_parallelism"]["logits_equal"] is True
    assert all(stage in ended.stdout for _, stage in STAGES if stage)
    assert str(path.with_suffix(".svg")) in ended.stdout or "no plot" in ended.stderr


def test_a_package_that_is_installed_is_not_hidden_by_its_sources(tmp_path):
    ended = run_script("--help", MEMPOOL_PYTHON=str(tmp_path), PYTHONPATH=PACKAGE)
    assert ended.returncode == 0 and "--transport" in ended.stdout, ended.stderr


@pytest.mark.parametrize("arguments, words", [
    (["--turns", "1"], "at least 2 conversations of 2 turns"),
    (["--prefill", "verbs"], "verbs sets nothing of a transport"),
    (["--engine", "jax"], "invalid choice"),
    (["--at-once", "0"], "--at-once 0 plays nothing"),
    (["--json", "/no/such/folder/demo.json"], "there is no folder /no/such/folder"),
    (["--stages", "PD-Basic,PD-Advanced"], "stages are some of colocated, "),
])
def test_flags_that_make_no_demo_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        demo.parse(arguments)
    assert words in capsys.readouterr().err


def test_a_transport_that_is_not_there_ends_the_demo_with_its_reason(capsys):
    assert demo.main([*QUICK, "--transport", "nosuch"]) == 1
    assert "nosuch" in capsys.readouterr().err


@pytest.mark.parametrize("longer", [["--turns", "40"], ["--blocks", "16"]])
def test_conversations_that_are_too_long_end_the_demo_before_it_plays(longer, capsys):
    assert demo.main([*QUICK, *longer, "--model", "tiny"]) == 1
    assert "a conversation comes to" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["colocated_caching", "PD-Basic", "PD-Caching-3"])
def test_one_wrong_float_of_a_running_instance_fails_the_demo(stage, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(instance, "start", start_wrong)
    arguments = [*QUICK, "--model", "tiny", "--stages", stage, "--plot", str(tmp_path / "plot.svg")]
    document = demo.Demo(demo.parse(arguments)).run()
    assert [run["logits_equal"] for run in document["runs"]] == [False]
    assert all(document["negative_controls_caught"].values())
    monkeypatch.setattr(demo.Demo, "run", lambda self: document)
    assert demo.main(arguments) == 1
    assert "DIFFER" in capsys.readouterr().out


@pytest.fixture(scope="module")
def control():
    spec = instance.content_spec("small", weights.LlamaConfig())
    setup = Setup("control", Policy(), transport="tcp", blocks=128, verify="always")
    with instance.start_agent(setup, spec) as agent:
        yield proof.Control(weights.load("small"), agent, spec, *conversations())


@pytest.mark.parametrize("make_wrong", proof.WRONG_KV.values(), ids=list(proof.WRONG_KV))
def test_wrong_kv_in_a_cache_is_caught_by_sums_and_by_logits(control, make_wrong):
    caught = control.caught_by(make_wrong)
    assert caught["block_checksums"] and caught["logits"]


def test_a_stale_block_is_one_block_of_the_prompt(control):
    noted = []

    def read(block):
        try:
            return control._agent.read(block)
        except mempool.Stale:
            return b"stale"

    def make_stale(prompt, cached):
        before = [read(block) for block in cached]
        reused = proof.Control._make_stale(control, prompt, cached)
        noted.extend(old == read(block) for old, block in zip(before, cached))
        assert reused.indices == cached[-1:].indices
        return reused

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(control, "_make_stale", make_stale)
        control.caught_by(None)
    assert len(noted) > 2 and noted == [True] * (len(noted) - 1) + [False]


def test_right_kv_in_a_cache_is_not_caught(control):
    caught = control.caught_by(lambda pages, rows: None)
    assert caught == {"block_checksums": False, "logits": False, "text": False}


def test_a_demo_whose_proof_fails_says_so():
    document = {"runs": [{"logits_equal": True}], "negative_controls_caught": {"stale_block": True},
                "sequence_parallelism": {"logits_equal": True, "tokens_matched": 96,
                                         "prompt_tokens": 100}}
    assert demo.holds(document)
    for part, field, wrong in (("negative_controls_caught", "stale_block", False),
                               ("sequence_parallelism", "logits_equal", False),
                               ("sequence_parallelism", "tokens_matched", 80)):
        assert not demo.holds(document | {part: document[part] | {field: wrong}})
    assert not demo.holds(document | {"runs": [{"logits_equal": False}]})


def test_the_99th_percentile_is_the_nearest_rank():
    times = report.times_ms(rank / 1000 for rank in range(200, 0, -1))
    assert times == {"min": 1.0, "median": 100.5, "p99": 198.0}
