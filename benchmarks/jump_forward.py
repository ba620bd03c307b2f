"""What it gives to append the tokens that a schema forces, instead of drawing each in a step of its own.

    python -m benchmarks.jump_forward [--jobs 200] [--slots 16] [--rounds 5] [--weights 1.1B] [--json FILE]

The same labelled reports through the engine as the workers run it, a child process without Redis, with
verdicts as JSON by the task's schema: with jump-forward, without it, and without it but with white space
allowed between JSON's parts, where next to nothing is forced. They take turns (A B C C B A …). Reports that
jump-forward gives another verdict than drawing are printed: steps of other rows round otherwise, see
`batched_equals_single`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batchyard.errors import YardError
from benchmarks.catalogue_engine import Setup, add_options, asked, setup_of, start
from benchmarks.machine import this_machine
from benchmarks.reports import Labelled, labelled_reports, share_right
from benchmarks.table import aligned, ratio, show, spread, write_json
from workers.engine_process import EngineProcess

VARIANTS: dict[str, dict[str, bool]] = {
    "jump-forward": {"jump_forward": True, "json_whitespace": False},
    "every token drawn": {"jump_forward": False, "json_whitespace": False},
    "drawn, white space allowed": {"jump_forward": False, "json_whitespace": True},
}
JUMPS, DRAWS = list(VARIANTS)[:2]


@dataclass(slots=True)
class Figures:
    """One variant: jobs/s by round; of the last round the mean steps and answer tokens of a job, the share of
    right verdicts, and the answers."""

    rates: list[float] = field(default_factory=list)
    steps: float = 0.0
    tokens: float = 0.0
    right: float = 0.0
    answers: list[str] = field(default_factory=list)
    verdicts: list[Any] = field(default_factory=list)

    def note(self, reports: Sequence[Labelled], done: Sequence[dict[str, Any]], seconds: float) -> None:
        """Add a round."""
        self.rates.append(len(done) / seconds)
        self.steps = sum(one["timings"]["steps"] for one in done) / len(done)
        self.tokens = sum(one["usage"]["completion_tokens"] for one in done) / len(done)
        self.answers = [one["text"] for one in done]
        self.verdicts = [one["parsed"] for one in done]
        by_text = {report.text: verdict for report, verdict in zip(reports, self.verdicts, strict=True)}
        self.right = share_right(by_text, list(reports))

    def differs(self, other: "Figures") -> int:
        """How many answers are another text."""
        return sum(one != two for one, two in zip(self.answers, other.answers, strict=True))


def measure(setup: Setup, reports: Sequence[Labelled], slots: int, rounds: int) -> dict[str, Figures]:
    """All variants in turn, after a warm-up of each."""
    found = {name: Figures() for name in VARIANTS}
    engines: dict[str, EngineProcess] = {}
    prompts = [report.text for report in reports]
    try:
        for name, switches in VARIANTS.items():
            engines[name] = start(setup, slots, **switches)
            asked(engines[name], setup, prompts[:slots], slots)
        for number in range(rounds):
            for name in list(VARIANTS) if number % 2 == 0 else list(reversed(VARIANTS)):
                began = time.perf_counter()
                done = asked(engines[name], setup, prompts, slots)
                found[name].note(reports, done, time.perf_counter() - began)
    finally:
        for engine in engines.values():
            engine.end()
    return found


def body_of(found: dict[str, Figures]) -> str:
    """The table."""
    drawn = found[DRAWS]
    rows = [
        [
            name,
            spread(one.rates),
            f"{ratio(one.rates, drawn.rates):.2f}",
            f"{one.steps:.1f}",
            f"{one.tokens:.1f}",
            f"{100 * one.right:.1f} %",
            str(one.differs(drawn)),
        ]
        for name, one in found.items()
    ]
    return aligned(["", "jobs/s", "x drawn", "steps/job", "tokens/job", "right", "other text"], rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jump_forward", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    add_options(parser)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = this_machine()
    reports = labelled_reports(arguments.jobs)
    try:
        found = measure(setup_of(arguments), reports, arguments.slots, arguments.rounds)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    model = arguments.weights or arguments.model
    title = f"Jump-forward, {model}, {len(reports)} reports in {arguments.slots} slots, greedy"
    show(title, machine, body_of(found))
    figures = {name: {**asdict(one), "answers": None, "verdicts": None} for name, one in found.items()}
    write_json(arguments.json, "jump_forward", machine, figures)
    pairs = zip(reports, found[JUMPS].verdicts, found[DRAWS].verdicts, strict=True)
    changed = [(report.text, jumped, drawn) for report, jumped, drawn in pairs if jumped != drawn]
    for text, jumped, drawn in changed:
        print(f"\n{text}\n  jump-forward: {jumped}\n  drawn:        {drawn}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
