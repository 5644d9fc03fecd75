# SPDX-License-Identifier: Apache-2.0
"""Tests the demo as its users run it: its document, its table, and what makes it fail."""
import json
import os
import pathlib
import subprocess
import sys

import mempool
import pytest
from two_instances import conversations

from reference_engine import instance, proof, serve_demo, serve_report, weights
from reference_engine.instance import Setup
from reference_engine.messages import Policy

ROOT = pathlib.Path(__file__).parents[3]
QUICK = ["--conversations", "2", "--turns", "2", "--at-once", "1"]
STAGES = [("colocated", None), ("colocated_caching", None), ("disaggregated", "PD-Basic"),
          ("disaggregated_caching", "PD-Caching-1"), ("disaggregated_caching", "PD-Caching-2"),
          ("disaggregated_caching", "PD-Caching-3")]


def run_script(*arguments):
    package = pathlib.Path(mempool.__file__).parents[1]
    environment = os.environ | {"MEMPOOL_PYTHON": str(package), "MEMPOOL_VENV": sys.prefix}
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


@pytest.mark.parametrize("arguments, words", [
    (["--turns", "1"], "at least 2 conversations of 2 turns"),
    (["--prefill", "verbs"], "verbs sets nothing of a transport"),
    (["--engine", "jax"], "invalid choice"),
    (["--stages", "PD-Basic,PD-Advanced"], "stages are some of colocated, "),
])
def test_flags_that_make_no_demo_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit):
        serve_demo.parse(arguments)
    assert words in capsys.readouterr().err


def test_a_transport_that_is_not_there_ends_the_demo_with_its_reason(capsys):
    assert serve_demo.main([*QUICK, "--transport", "nosuch"]) == 1
    assert "nosuch" in capsys.readouterr().err


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


def test_right_kv_in_a_cache_is_not_caught(control):
    caught = control.caught_by(lambda pages, rows: None)
    assert caught == {"block_checksums": False, "logits": False, "text": False}


def test_a_demo_whose_proof_fails_says_so():
    document = {"runs": [{"logits_equal": True}], "negative_controls_caught": {"stale_block": True},
                "sequence_parallelism": {"logits_equal": True, "tokens_matched": 96,
                                         "prompt_tokens": 100}}
    assert serve_demo.holds(document)
    for part, field, wrong in (("negative_controls_caught", "stale_block", False),
                               ("sequence_parallelism", "logits_equal", False),
                               ("sequence_parallelism", "tokens_matched", 80)):
        assert not serve_demo.holds(document | {part: document[part] | {field: wrong}})
    assert not serve_demo.holds(document | {"runs": [{"logits_equal": False}]})


def test_the_99th_percentile_is_the_nearest_rank():
    times = serve_report.times_ms(rank / 1000 for rank in range(200, 0, -1))
    assert times == {"min": 1.0, "median": 100.5, "p99": 198.0}
