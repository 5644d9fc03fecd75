# SPDX-License-Identifier: Apache-2.0
"""Tests that the measurement of calls runs, and gives a figure for each."""
import json
import subprocess
import sys


def test_each_call_has_a_row(tmp_path):
    written = tmp_path / "perf.json"
    done = subprocess.run(
        [sys.executable, "-m", "mempool.perf", "--repeat", "3", "--json", str(written)],
        capture_output=True, text=True, timeout=100, check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(written.read_text(encoding="utf-8"))
    rows = figures["us_per_block"]
    assert figures["blocks"] == 64 and all(value > 0 for value in rows.values())
    assert {"alloc", "free", "insert", "match", "unpin", "submit"} <= set(rows)
    printed = [line[:26].strip() for line in done.stdout.splitlines()]
    assert printed == ["call", *rows]
