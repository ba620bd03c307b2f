"""Minutes of mixed traffic straight into engines: does anything leak, is any answer wrong?

    python -m benchmarks.soak [--minutes 10] [--slots 16] [--seed 1] [--model GGUF] [--json FILE]

Long and short prompts, pictures, schemas, grammars, choices, urgent jobs, cancels, deadlines, prompts that
are too long and bursts (`traffic.py`), by a seed that replays them: nine tenths of the minutes into the
starter with an image encoder of random weights, the last into an embedding model of random weights. After a
warm-up of the same traffic the engine is drained and its resident memory read; after the minutes it is
drained and read again. Then its counters must show every slot free and no cell in use but those of kept
beginnings, a full house of jobs must still fit, and a sample of its answers must be what an engine with one
slot answers: where a text differs, the two tokens must have been as good as tied (see
`batched_equals_single`). Exit status 1 if any of it fails.
"""

import argparse
import base64
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from batchyard.errors import YardError
from benchmarks.batched_equals_single import ALTERNATIVES, parting
from benchmarks.encoder_file import Shape, wordpieces, write_encoder
from benchmarks.engine_client import Frame, completions, engine_child, frames, setting, stats, supply
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.shapes import STARTER
from benchmarks.submit_rate import resident_bytes
from benchmarks.table import aligned, show, write_json
from benchmarks.traffic import (
    DONE,
    EMBEDDING_KINDS,
    IMAGE_KINDS,
    TEXT_KINDS,
    Kind,
    Piece,
    album,
    crowds,
    traffic,
)
from benchmarks.vision_file import write_llava
from workers.engine_process import EngineProcess

N_CTX = 256
PHASE_SECONDS = 2.0
SAMPLE_SHARE = 0.05
SAMPLE_SIZE = 400
PROBABILITY_SLACK = 0.05
LEAST_COSINE = 0.999
ENCODER = Shape(layers=4, width=128, hidden=256, heads=4, context=256)


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
class Subject:
    """What is soaked: a model with further settings of its engine, and the traffic it gets for `share` of the
    minutes."""

    name: str
    model: Path
    n_ctx: int
    kinds: Sequence[Kind]
    share: float
    settings: Frame


def subjects(model: Path, folder: Path, settings: Frame) -> list[Subject]:
    """The starter (or another model) with an image encoder of random weights made for it, so that texts and
    pictures meet in one engine; and an embedding model of random weights."""
    width = int(gguf.GGUFReader(model).fields["llama.embedding_length"].contents())
    mmproj = write_llava(folder / "mmproj.gguf", width=width)
    words = sorted(
        {word for report in labelled_reports(500) for word in re.findall("[a-z]+", report.text.lower())}
    )
    encoder = write_encoder(folder / "encoder.gguf", ENCODER, wordpieces(words))
    seeing = {"mmproj_path": str(mmproj)} | settings
    return [
        Subject("text and images", model, N_CTX, (*TEXT_KINDS, *IMAGE_KINDS), 0.9, seeing),
        Subject("embeddings", encoder, ENCODER.context, EMBEDDING_KINDS, 0.1, {"embedding": True}),
    ]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    name: str
    passed: bool
    found: str


class Soak:
    """Keeps one engine under traffic of some kinds. `seed` decides the requests and the size of the crowd."""

    def __init__(
        self, engine: EngineProcess, kinds: Sequence[Kind], slots: int, seed: int, n_ctx: int = N_CTX
    ) -> None:
        self._engine = engine
        self._pieces = traffic(kinds, n_ctx, seed)
        self._album = album()
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
        if frame["op"] == "need_image":
            supply(self._engine, frame, self._album)
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
    subject: Subject, sample: list[tuple[Piece, Frame]], threads: int, margin: float
) -> tuple[int, list[str]]:
    """How many answers are not what an engine with one slot gives, and those whose difference no rounding
    explains."""
    differing, wrong = 0, []
    with engine_child(
        subject.model, slots=1, n_ctx=subject.n_ctx, threads=threads, more=subject.settings
    ) as single:
        alone = completions(single, [piece.request for piece, _ in sample], 1, album())
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
    """Whether two completions say the same: the same text, or near probabilities of the labels, or vectors of
    nearly the same direction."""
    if answer.get("embedding") is not None:
        return float(_vector(answer) @ _vector(reference)) >= LEAST_COSINE
    chances, others = answer.get("choice_probabilities"), reference.get("choice_probabilities")
    if chances is None or others is None:
        return bool(answer["text"] == reference["text"])
    return all(abs(chances[label] - others[label]) <= PROBABILITY_SLACK for label in others)


def _vector(answer: Frame) -> npt.NDArray[np.float32]:
    """The unit vector of an embedding's completion."""
    return np.frombuffer(base64.b64decode(answer["embedding"]), "<f4")


def _distance(single: EngineProcess, piece: Piece, answer: Frame) -> float | None:
    """How far apart the two tokens were where the texts part; None where there are none, or if not found."""
    if answer.get("choice_probabilities") is not None or answer.get("embedding") is not None:
        return None
    sampling = piece.request["sampling"] | {"logprobs": ALTERNATIVES}
    found = completions(single, [piece.request | {"sampling": sampling}], 1, album())
    (again,) = found.values()
    return parting(again["logprobs"] or [], answer["text"])[1]


def verdict(
    before: int, after: int, end: Frame, slots: int, tally: Tally, house: bool, differing: int,
    wrong: list[str], growth: float,
) -> list[Check]:  # fmt: skip
    """Every check with what was found. `before` and `after` are resident bytes, `growth` the megabytes by
    which they may differ, `end` the engine's counters when it was drained: an embedder has no cells."""
    grown = (after - before) / 1e6
    done = sum(count for (_, outcome), count in tally.outcomes.items() if outcome == DONE)
    checks = [
        Check(
            "resident memory", grown <= growth, f"{before / 1e6:.1f} -> {after / 1e6:.1f} MB ({grown:+.1f})"
        ),
        Check("nobody left behind", not end["running"] and not end["waiting"], f"{end['running']} running"),
        Check("outcomes", not tally.unexpected, f"{len(tally.unexpected)} unexpected, {done} done"),
        Check(
            "answers", not wrong, f"{len(tally.sample)} compared, {differing} other text, {len(wrong)} wrong"
        ),
    ]
    if "cells_used" not in end:
        return checks
    running = end["cells_used"] - end["kept_cells"]
    return [
        *checks,
        Check("cells", running == 0, f"{running} in use, {end['kept_cells']} kept"),
        Check("slots", end["free_slots"] == slots, f"{end['free_slots']} of {slots} free"),
        Check("full house", house, f"{slots} at once"),
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one subject."""

    subject: str
    checks: list[Check]
    tally: Tally
    wrong: list[str]
    counters: dict[str, Frame]


def soak(options: argparse.Namespace, subject: Subject) -> Outcome:
    """Run one subject."""
    slots, threads = options.slots, options.threads
    with engine_child(
        subject.model,
        slots=slots,
        n_ctx=subject.n_ctx,
        threads=threads,
        more=subject.settings,
    ) as engine:
        run = Soak(engine, subject.kinds, slots, options.seed, subject.n_ctx)
        run.run(subject.share * options.warm_up)
        start, before = stats(engine), resident_bytes(process=engine.pid)
        run.run(subject.share * 60 * options.minutes)
        end, after = stats(engine), resident_bytes(process=engine.pid)
        house = "cells_used" not in end or full_house(engine, slots)
    differing, wrong = wrong_answers(subject, run.tally.sample, threads, options.margin)
    checks = verdict(before, after, end, slots, run.tally, house, differing, wrong, options.allowed_growth)
    return Outcome(subject.name, checks, run.tally, wrong, {"start": start, "end": end})


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
        with tempfile.TemporaryDirectory() as folder:
            found = [
                soak(options, subject)
                for subject in subjects(options.model, Path(folder), dict(options.engine_setting))
            ]
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = f"Soak: {options.minutes:g} minutes, {options.slots} slots, seed {options.seed}"
    bodies = [f"{one.subject}\n\n{body_of(one.checks, one.tally, one.wrong)}" for one in found]
    show(title, machine, "\n\n".join(bodies))
    figures = {
        one.subject: {
            "checks": [asdict(check) for check in one.checks],
            "outcomes": {f"{kind}: {what}": n for (kind, what), n in sorted(one.tally.outcomes.items())},
            "counters": one.counters,
        }
        for one in found
    }
    write_json(options.json, "soak", machine, figures)
    return 0 if all(check.passed for one in found for check in one.checks) else 1


if __name__ == "__main__":
    sys.exit(main())
