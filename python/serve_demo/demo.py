# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's command line: conversations in every setting, and the proof that KV was right."""
import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from reference_engine import instance, weights
from reference_engine.conversations import Conversation, draw
from reference_engine.front import CACHING, SETTINGS, Front, Setting
from reference_engine.instance import Setup
from reference_engine.llama import UNIT
from reference_engine.messages import Policy
from serve_demo import proof, report

STAGES = {str(setting): setting for setting in SETTINGS}
SPLIT = Setting("sequence_parallel", None, CACHING, CACHING)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the flags; ends the program where they are wrong."""
    parser = argparse.ArgumentParser("serve-demo.sh", description="Serve, and prove all KV right.")
    parser.add_argument("--engine", choices=("numpy", "torch"), default="numpy")
    parser.add_argument("--transport", default="shm", help="what moves KV: tcp, shm, verbs, ucx")
    for role in ("prefill", "decode"):
        parser.add_argument(f"--{role}", action="append", default=[], metavar="TRANSPORT.KEY=VALUE",
                            help="set something of a transport there, as verbs.devices=mlx5_0")
    parser.add_argument("--model", default="small", help="small, tiny or a folder")
    parser.add_argument("--stages", default=",".join(STAGES), help="to run (%(default)s)")
    parser.add_argument("--blocks", type=int, default=640, help="of each instance's pool")
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=4, help="of each conversation, at least 2")
    parser.add_argument("--at-once", type=int, default=4, help="conversations played at a time")
    parser.add_argument("--seed", type=int, default=1, help="of the conversations")
    parser.add_argument("--json", type=Path, help="write the results to this file, too")
    parser.add_argument("--plot", type=Path, help="of them (as JSON, or serve-demo, .svg)")
    options = parser.parse_args(arguments)
    if options.conversations < 2 or options.turns < 2:
        parser.error("the proof needs at least 2 conversations of 2 turns")
    if options.at_once < 1:
        parser.error(f"--at-once {options.at_once} plays nothing; give 1 or more")
    for path in filter(None, (options.json, options.plot)):
        if not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}; make it first")
    for setting in options.prefill + options.decode:
        if "=" not in setting or "." not in setting.partition("=")[0]:
            parser.error(f"{setting} sets nothing of a transport; give TRANSPORT.KEY=VALUE")
    options.settings = [STAGES[name] for name in options.stages.split(",") if name in STAGES]
    if len(options.settings) != len(options.stages.split(",")):
        parser.error(f"stages are some of {', '.join(STAGES)}, not {options.stages}")
    return options


class Demo:
    """What all runs of one command share. Thread: confined."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._setups = [
            Setup("", Policy(), options.model, options.engine, options.transport,
                  dict(setting.split("=", 1) for setting in given), options.blocks)
            for given in (options.prefill, options.decode)]
        self._model = weights.load(options.model, options.engine)
        self._conversations = draw(options.seed, options.conversations, options.turns,
                                   self._model.config.vocab_size)
        room = min(self._model.config.max_position_embeddings, options.blocks * UNIT)
        longest = max(one.tokens for one in self._conversations)
        if longest > room:
            raise ValueError(f"a conversation comes to {longest} tokens, of at most {room} by "
                             f"--model and --blocks; give less than {options.turns} --turns")
        requests = options.conversations * options.turns
        self._progress = report.Progress(requests * (1 + len(options.settings)))
        self._alone: dict[tuple[int, int], proof.Said] = {}

    def run(self) -> dict[str, Any]:
        """Play everything; gives the document."""
        for conversation in self._conversations:
            for turn, said in enumerate(proof.converse_alone(self._model, conversation)):
                self._alone[conversation.number, turn] = said
                self._progress.step("without cache or transfer")
        runs = [self._play(setting) for setting in self._options.settings]
        split, controls = self._split(self._conversations[0]), self._controls()
        return {"runs": runs, "sequence_parallelism": split,
                "negative_controls_caught": {kind: by["block_checksums"] and by["logits"]
                                             for kind, by in controls.items()},
                "negative_controls_caught_by": controls}

    def _play(self, setting: Setting) -> dict[str, Any]:
        with Front(setting, self._setups) as front:
            started = time.monotonic()
            outcomes = front.converse(self._conversations, self._options.at_once,
                                      lambda outcome: self._progress.step(str(setting)))
            seconds = time.monotonic() - started
        for error in filter(None, (outcome.error for outcome in outcomes.values())):
            raise RuntimeError(f"{setting}: {error}")
        equal = all(self._alone[key].same_logits(outcome.logits)
                    for key, outcome in outcomes.items())
        self._progress.end(f"{setting}: {len(outcomes)} requests in {seconds:.1f} s")
        return report.run_of(setting, self._options.transport, list(outcomes.values()),
                                   seconds, equal)

    def _split(self, conversation: Conversation) -> dict[str, Any]:
        """Prefill one prompt on two instances; then ask for an answer that needs both halves."""
        prompt = conversation.prompt([])
        later = conversation.prompt([self._alone[conversation.number, 0].tokens])
        split = len(prompt) // 2 // UNIT * UNIT
        with Front(SPLIT, self._setups) as front:
            front.settle(made := front.prefill_split(prompt, split))
            gathered = front.submit(later, conversation.answers[1], gather_from="second")
            front.settle(gathered)
        if error := made.error or gathered.error:
            raise RuntimeError(f"sequence parallelism: {error}")
        return {"prompt_tokens": len(prompt), "prefilled_by_first": split,
                "tokens_matched": gathered.matched, "bytes_gathered": gathered.bytes_moved,
                "logits_equal": self._alone[conversation.number, 1].same_logits(gathered.logits)}

    def _controls(self) -> dict[str, dict[str, bool]]:
        spec = instance.content_spec(self._options.model, self._model.config)
        setup = Setup("control", Policy(), transport="tcp", blocks=128, verify="always")
        with instance.start_agent(setup, spec) as agent:
            control = proof.Control(self._model, agent, spec, *self._conversations[:2])
            return {kind: control.caught_by(wrong) for kind, wrong in proof.WRONG_KV.items()}


def show(document: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the table and the proof; write the document and the plot."""
    print(report.table(document["runs"]))
    split = document["sequence_parallelism"]
    print(f"one prompt of {split['prompt_tokens']} tokens prefilled on two instances: a later "
          f"request found {split['tokens_matched']} of them, logits "
          f"{'equal' if split['logits_equal'] else 'DIFFER'}")
    for kind, by in document["negative_controls_caught_by"].items():
        caught = [what for what, is_caught in by.items() if is_caught]
        print(f"{kind.replace('_', ' ')}: caught by {', '.join(caught) or 'NOTHING'}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    path = options.plot or (options.json or Path("serve-demo")).with_suffix(".svg")
    print(report.plot(document["runs"], path))


def holds(document: dict[str, Any]) -> bool:
    """Tell whether all is as it must be."""
    split = document["sequence_parallelism"]
    return (all(run["logits_equal"] for run in document["runs"]) and split["logits_equal"]
            and split["tokens_matched"] == split["prompt_tokens"] // UNIT * UNIT
            and all(document["negative_controls_caught"].values()))


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 1 where the proof fails or an instance does, whose words are shown."""
    options = parse(arguments)
    try:
        document = Demo(options).run()
        show(document, options)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        print(f"serve-demo: {error}", file=sys.stderr)
        return 1
    return 0 if holds(document) else 1


if __name__ == "__main__":
    sys.exit(main())
