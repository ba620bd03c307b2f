"""Whether batching changes answers: the same greedy prompts in many slots at once and one by one.

    python -m benchmarks.batched_equals_single [--jobs 200] [--slots 16 32] [--json FILE]

Runs the engine as the workers run it, as a child process, without Redis. For each answer that differs it asks
the single engine again with log-probabilities and shows the first token where the answers part and how close
the two tokens were there: a margin near zero means rounding (a batch's matrix products are summed in
another order), a large one would mean that one job's answer depends on its neighbours, which is a fault, and
so would one that cannot be found: the other token is not among the likeliest, or one text goes on behind the
other's end. Exit status 1 if any margin exceeds `--margin` (natural logarithm) or was not found.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from batchyard.errors import YardError
from benchmarks.catalogue_engine import Setup, add_options, asked, setup_of, start
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, write_json
from workers.engine_process import EngineProcess

ALTERNATIVES = 100
"""Of each token, to find the one that the other text went on with: all that the engine tells."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One prompt whose answer changed. `agreed` is the text before the answers part; `margin` the distance
    between the two tokens' log-probabilities in the single engine there, None if it could not be found."""

    prompt: str
    single: str
    batched: str
    agreed: str
    margin: float | None


def parting(single: Sequence[dict[str, Any]], batched: str) -> tuple[str, float | None]:
    """Where a batched text leaves the tokens of the single one: the agreed text, and how much likelier the
    single one's token was there than the likeliest one that the batched text goes on with; None if none of
    those is known. `single` are the token log-probabilities, each with its `top` alternatives.

    Under a schema the likeliest token of all may be forbidden, so the two best do not decide."""
    agreed = ""
    for token in single:
        if not batched.startswith(agreed + token["token"]):
            scores = {other["token"]: other["logprob"] for other in token["top"]}
            rest = batched[len(agreed) :]
            others = [score for other, score in scores.items() if other and rest.startswith(other)]
            own = scores.get(token["token"])
            return agreed, abs(own - max(others)) if others and own is not None else None
        agreed += token["token"]
    return agreed, None  # the single answer ended here; the batched one goes on


def compare(setup: Setup, prompts: Sequence[str], slots: Sequence[int]) -> dict[int, list[Difference]]:
    """The differences by number of slots."""
    single_engine = start(setup, 1)
    try:
        single = [str(done["text"]) for done in asked(single_engine, setup, prompts, 1)]
        found = {}
        for count in slots:
            engine = start(setup, count)
            try:
                batched = [str(done["text"]) for done in asked(engine, setup, prompts, count)]
            finally:
                engine.end()
            triples = zip(prompts, single, batched, strict=True)
            found[count] = [
                _explained(single_engine, setup, prompt, alone, together)
                for prompt, alone, together in triples
                if alone != together
            ]
    finally:
        single_engine.end()
    return found


def _explained(engine: EngineProcess, setup: Setup, prompt: str, single: str, batched: str) -> Difference:
    (again,) = asked(engine, setup, [prompt], 1, logprobs=ALTERNATIVES)
    agreed, margin = parting(again["logprobs"] or [], batched)
    return Difference(prompt, single, batched, agreed, margin)


def body_of(found: dict[int, list[Difference]], jobs: int) -> str:
    """The table, and each difference below it."""
    rows = []
    for slots, differences in found.items():
        margins = [one.margin for one in differences if one.margin is not None]
        widest = f"{max(margins):.4f}" if margins else "-"
        unknown = str(len(differences) - len(margins))
        rows.append([f"{slots} slots", str(jobs), str(len(differences)), widest, unknown])
    lines = [aligned(["batched in", "prompts", "other text", "widest margin", "not found"], rows)]
    for slots, differences in found.items():
        for one in differences:
            margin = "not found" if one.margin is None else f"{one.margin:.4f}"
            lines += [
                "",
                f"{slots} slots: {one.prompt}",
                f"  one by one: {one.single}",
                f"  batched:    {one.batched}",
                f"  same up to: {one.agreed!r}; margin of the two tokens there: {margin}",
            ]
    return "\n".join(lines)


def unexplained(differences: Sequence[Difference], margin: float) -> list[Difference]:
    """Those that no rounding explains: too far apart, or how far is not known."""
    return [one for one in differences if one.margin is None or one.margin > margin]


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batched_equals_single", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 32])
    add_options(parser)
    parser.add_argument("--margin", type=float, default=0.1, help="widest margin that rounding may explain")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = this_machine()
    prompts = [report.text for report in labelled_reports(arguments.jobs)]
    try:
        found = compare(setup_of(arguments), prompts, arguments.slots)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    show(f"Batched against one by one, {arguments.model}, greedy", machine, body_of(found, len(prompts)))
    figures = {str(slots): [asdict(one) for one in differences] for slots, differences in found.items()}
    write_json(arguments.json, "batched_equals_single", machine, {"jobs": len(prompts), "slots": figures})
    return 1 if any(unexplained(ones, arguments.margin) for ones in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
