# SPDX-License-Identifier: Apache-2.0
"""Owns how the demo is shown: progress, the table, the document and the plot."""
import statistics
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reference_engine.front import Outcome, Setting

HEADER = ("setting", "stage", "requests/s", "tokens/s", "TTFT ms min/median/P99",
          "JCT ms min/median/P99", "hits", "KiB/request", "calls/request", "logits")


class Progress:
    """A bar where standard error is a terminal, else a line per setting. Thread: confined."""

    def __init__(self, total: int):
        self._total, self._done, self._terminal = total, 0, sys.stderr.isatty()

    def step(self, words: str) -> None:
        """Note that one request of the setting `words` has been answered."""
        self._done += 1
        if self._terminal:
            bar = "#" * (40 * self._done // self._total)
            print(f"\r[{bar:.<40}] {self._done}/{self._total} {words:40}", end="", file=sys.stderr)

    def end(self, words: str) -> None:
        """Note that a setting is through."""
        print(f"\r{words:95}" if self._terminal else words, file=sys.stderr, flush=True)


def times_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Give least, median and 99th percentile (nearest rank) in milliseconds."""
    ordered = sorted(1000 * one for one in seconds)
    rank = -(-99 * len(ordered) // 100) - 1
    return {"min": ordered[0], "median": statistics.median(ordered), "p99": ordered[rank]}


def run_of(setting: Setting, transport: str, outcomes: list[Outcome], seconds: float,
           equal: bool) -> dict[str, Any]:
    """Give what one setting did. Bytes and calls are those of its transfers, both ways."""
    count = len(outcomes)
    prompts = sum(len(outcome.request.prompt) for outcome in outcomes)
    return {"setting": setting.name, "stage": setting.stage, "transport": transport,
            "requests_per_s": count / seconds,
            "tokens_per_s": sum(len(outcome.tokens) for outcome in outcomes) / seconds,
            "ttft_ms": times_ms(outcome.first_token_s for outcome in outcomes),
            "jct_ms": times_ms(outcome.finished_s for outcome in outcomes),
            "hit_ratio": sum(outcome.matched for outcome in outcomes) / prompts,
            "bytes_per_request": sum(outcome.bytes_moved for outcome in outcomes) / count,
            "network_calls_per_request":
                sum(outcome.network_calls for outcome in outcomes) / count,
            "logits_equal": equal}


def table(runs: list[dict[str, Any]]) -> str:
    """Give the runs side by side."""
    rows = [HEADER] + [
        (run["setting"], run["stage"] or "-", f"{run['requests_per_s']:.2f}",
         f"{run['tokens_per_s']:.1f}",
         *("/".join(f"{ms:.0f}" for ms in run[times].values()) for times in ("ttft_ms", "jct_ms")),
         f"{run['hit_ratio']:.1%}", f"{run['bytes_per_request'] / 1024:.0f}",
         f"{run['network_calls_per_request']:.1f}", "equal" if run["logits_equal"] else "DIFFER")
        for run in runs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def plot(runs: list[dict[str, Any]], path: Path) -> str:
    """Draw the runs as bars, if matplotlib is there; gives what there is to say of it."""
    if not find_spec("matplotlib"):
        return "plot: left out, for matplotlib is not installed"
    from matplotlib.figure import Figure

    names = [run["stage"] or run["setting"] for run in runs]
    panels = {"prompt tokens found, %": [100 * run["hit_ratio"] for run in runs],
              "KiB moved per request": [run["bytes_per_request"] / 1024 for run in runs],
              "network calls per request": [run["network_calls_per_request"] for run in runs],
              "time to first token, median ms": [run["ttft_ms"]["median"] for run in runs],
              "job completion time, median ms": [run["jct_ms"]["median"] for run in runs],
              "tokens per second": [run["tokens_per_s"] for run in runs]}
    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True)
    for axis, (title, values) in zip(axes.flat, panels.items()):
        axis.bar_label(axis.barh(names, values), fmt="%.4g", padding=3)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.18)
    axes[0, 0].invert_yaxis()
    figure.savefig(path)
    return f"plot: {path}"
