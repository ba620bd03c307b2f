"""Minutes of mixed traffic straight into one engine: does anything leak, is any answer wrong?

    python -m benchmarks.soak [--minutes 10] [--slots 16] [--seed 1] [--model GGUF] [--json FILE]

Long and short prompts, schemas, grammars, choices, urgent jobs, cancels, deadlines, prompts that are too long
and bursts (`traffic.py`), by a seed that replays them. After a warm-up of the same traffic the engine is
drained and its resident memory read; after the minutes it is drained and read again. Then its counters must
show every slot free and no cell in use but those of kept beginnings, a full house of jobs must still fit,
and a sample of its answers must be what an engine with one slot answers: where a text differs, the two
tokens must have been as good as tied (see `batched_equals_single`). Exit status 1 if any of it fails.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from batchyard.errors import YardError
from benchmarks.batched_equals_single import ALTERNATIVES, parting
from benchmarks.engine_client import Frame, completions, engine_child, frames, setting, stats
from benchmarks.machine import this_machine
from benchmarks.shapes import STARTER
from benchmarks.submit_rate import resident_bytes
from benchmarks.table import aligned, show, write_json
from benchmarks.traffic import DONE, TEXT_KINDS, Kind, Piece, crowds, traffic
from workers.engine_process import EngineProcess

N_CTX = 256
PHASE_SECONDS = 2.0
SAMPLE_SHARE = 0.05
SAMPLE_SIZE = 400
PROBABILITY_SLACK = 0.05


@dataclass(slots=True)
class Tally:
    """What has become of the requests: counts by kind and outcome, what nobody expected, and the sample of
    answers to compare."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    sample: list[tuple[Piece, Frame]] = field(default_factory=list)

    def note(self, piece: Piece, outcome: str, frame: Frame, keep: bool) -> None:
        """Count one answer."""
        self.outcomes[piece.kind, outcome] += 1
        if outcome not in piece.outcomes:
            self.unexpected.append(f"{piece.kind} {piece.request['id']}: {frame.get('error', outcome)}")
        elif keep and outcome == DONE and piece.comparable and len(self.sample) < SAMPLE_SIZE:
            self.sample.append((piece, frame["completion"]))


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    name: str
    passed: bool
    found: str


class Soak:
    """Keeps one engine under traffic of some kinds. `seed` decides the requests and the size of the crowd."""

    def __init__(self, engine: EngineProcess, kinds: Sequence[Kind], slots: int, seed: int) -> None:
        self._engine = engine
        self._pieces = traffic(kinds, N_CTX, seed)
        self._crowds = crowds(slots, seed)
        self._keep = random.Random(f"sample {seed}")
        self._inside: dict[str, Piece] = {}
        self._cancels: list[tuple[float, str]] = []
        self.tally = Tally()

    def run(self, seconds: float) -> None:
        """Traffic for so long, then wait until the engine is empty.

        Raises:
            EngineLost: it died or hangs.
        """
        end = phase = time.monotonic()
        end += seconds
        crowd = 0
        while (now := time.monotonic()) < end or self._inside:
            if now >= phase:
                crowd, phase = next(self._crowds), now + PHASE_SECONDS
            while now < end and len(self._inside) < crowd:
                self._send(next(self._pieces))
            self._cancel(now)
            for frame in frames(self._engine):
                self._receive(frame)

    def _send(self, piece: Piece) -> None:
        request = piece.request
        if piece.expires_in is not None:
            request = request | {"deadline": time.time() + piece.expires_in}
        if piece.cancel_after is not None:
            self._cancels.append((time.monotonic() + piece.cancel_after, request["id"]))
        self._engine.send({"op": "submit", "request": request})
        self._inside[request["id"]] = piece

    def _cancel(self, now: float) -> None:
        for _, name in [due for due in self._cancels if due[0] <= now]:
            self._engine.send({"op": "cancel", "id": name})
        self._cancels = [due for due in self._cancels if due[0] > now]

    def _receive(self, frame: Frame) -> None:
        if frame["op"] not in ("done", "failed", "rejected"):
            return
        piece = self._inside.pop(frame["id"])
        outcome = DONE if frame["op"] == "done" else frame["error"]["code"]
        self.tally.note(piece, outcome, frame, self._keep.random() < SAMPLE_SHARE)


def full_house(engine: EngineProcess, slots: int) -> bool:
    """Whether every slot can still be used: as many jobs as slots are done together."""
    pieces = (piece for piece in traffic(TEXT_KINDS, N_CTX, seed=0) if piece.kind == "short")
    requests = [piece.request for piece in islice(pieces, slots)]
    return len(completions(engine, requests, slots)) == slots


def wrong_answers(
    model: Path, sample: list[tuple[Piece, Frame]], threads: int, margin: float
) -> tuple[int, list[str]]:
    """How many answers are not what an engine with one slot gives, and those whose difference no rounding
    explains."""
    differing, wrong = 0, []
    with engine_child(model, slots=1, n_ctx=N_CTX, threads=threads, n_batch=256) as single:
        alone = completions(single, [piece.request for piece, _ in sample], 1)
        for piece, answer in sample:
            reference = alone[piece.request["id"]]
            if same(answer, reference):
                continue
            differing += 1
            distance = _distance(single, piece, answer)
            if distance is None or distance > margin:
                wrong.append(f"{piece.kind} {piece.request['id']} ({distance}): {answer['text']!r}")
    return differing, wrong


def same(answer: Frame, reference: Frame) -> bool:
    """Whether two completions say the same: the same text, or probabilities of the labels that are near."""
    chances, others = answer.get("choice_probabilities"), reference.get("choice_probabilities")
    if chances is None or others is None:
        return bool(answer["text"] == reference["text"])
    return all(abs(chances[label] - others[label]) <= PROBABILITY_SLACK for label in others)


def _distance(single: EngineProcess, piece: Piece, answer: Frame) -> float | None:
    """How far apart the two tokens were where the texts part; None for choices, or if not found."""
    if answer.get("choice_probabilities") is not None:
        return None
    sampling = piece.request["sampling"] | {"logprobs": ALTERNATIVES}
    found = completions(single, [piece.request | {"sampling": sampling}], 1)
    (again,) = found.values()
    return parting(again["logprobs"] or [], answer["text"])[1]


def verdict(
    before: int, after: int, end: Frame, slots: int, tally: Tally, house: bool, differing: int,
    wrong: list[str], growth: float,
) -> list[Check]:  # fmt: skip
    """Every check with what was found. `before` and `after` are resident bytes, `growth` the megabytes by
    which they may differ, `end` the engine's counters when it was drained."""
    grown = (after - before) / 1e6
    running = end["cells_used"] - end["kept_cells"]
    done = sum(count for (_, outcome), count in tally.outcomes.items() if outcome == DONE)
    return [
        Check(
            "resident memory", grown <= growth, f"{before / 1e6:.1f} -> {after / 1e6:.1f} MB ({grown:+.1f})"
        ),
        Check("cells", running == 0, f"{running} in use, {end['kept_cells']} kept"),
        Check("slots", end["free_slots"] == slots, f"{end['free_slots']} of {slots} free"),
        Check("nobody left behind", not end["running"] and not end["waiting"], f"{end['running']} running"),
        Check("full house", house, f"{slots} at once"),
        Check("outcomes", not tally.unexpected, f"{len(tally.unexpected)} unexpected, {done} done"),
        Check(
            "answers", not wrong, f"{len(tally.sample)} compared, {differing} other text, {len(wrong)} wrong"
        ),
    ]


def body_of(checks: list[Check], tally: Tally, wrong: list[str]) -> str:
    """The table, and what was wrong below it."""
    kinds = sorted({kind for kind, _ in tally.outcomes})
    rows = [
        [
            kind,
            ", ".join(
                f"{count} {what}" for (of, what), count in sorted(tally.outcomes.items()) if of == kind
            ),
        ]
        for kind in kinds
    ]
    lines = [aligned(["kind", "outcomes"], rows), ""]
    verdicts = [[one.name, "holds" if one.passed else "FAILS", one.found] for one in checks]
    lines.append(aligned(["check", "", "found"], verdicts))
    lines += ["", *tally.unexpected[:10], *wrong[:10]]
    return "\n".join(lines).rstrip()


def soak(options: argparse.Namespace) -> tuple[list[Check], Tally, list[str], dict[str, Any]]:
    """Run it all."""
    with engine_child(
        options.model, slots=options.slots, n_ctx=N_CTX, threads=options.threads, n_batch=256,
        more=dict(options.engine_setting),
    ) as engine:  # fmt: skip
        run = Soak(engine, TEXT_KINDS, options.slots, options.seed)
        run.run(options.warm_up)
        start, before = stats(engine), resident_bytes(process=engine.pid)
        run.run(60 * options.minutes)
        end, after = stats(engine), resident_bytes(process=engine.pid)
        house = full_house(engine, options.slots)
    differing, wrong = wrong_answers(options.model, run.tally.sample, options.threads, options.margin)
    checks = verdict(
        before, after, end, options.slots, run.tally, house, differing, wrong, options.allowed_growth
    )
    return checks, run.tally, wrong, {"start": start, "end": end}


def main() -> int:
    """Run and print the verdict; exit status 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--warm-up", type=float, default=60.0, help="seconds of traffic before the first reading"
    )
    parser.add_argument("--model", type=Path, default=STARTER, help="a GGUF with a chat template")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--allowed-growth", type=float, default=8.0, help="megabytes of resident memory")
    parser.add_argument("--margin", type=float, default=0.1, help="widest margin that rounding may explain")
    parser.add_argument(
        "--engine-setting", type=setting, action="append", default=[], metavar="NAME=JSON",
        help="one more of the engine's, such as kv_unified=true",
    )  # fmt: skip
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    try:
        checks, tally, wrong, counters = soak(options)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = f"Soak: {options.minutes:g} minutes, {options.slots} slots, seed {options.seed}"
    show(title, machine, body_of(checks, tally, wrong))
    outcomes = {f"{kind}: {what}": count for (kind, what), count in sorted(tally.outcomes.items())}
    figures = {"checks": [asdict(one) for one in checks], "outcomes": outcomes, "counters": counters}
    write_json(options.json, "soak", machine, figures)
    return 0 if all(one.passed for one in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
