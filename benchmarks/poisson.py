"""Poisson arrivals at shares of the engine's capacity: latencies and deadlines met, step control on and off.

    python -m benchmarks poisson [--seconds 30] [--rounds 3] [--slots 16] [--json FILE]

The engine as a worker runs it, a child process, with the starter model; no queue. Verdict jobs of
inspection reports arrive at random and wait for nobody (open loop), each with a deadline; one job in five
is a batch job with a long prompt and none. The capacity is that of the same mix with all slots kept full.
Engines with step control and without take turns at the same arrivals. A latency runs from when a job was
due, so that a benchmark that falls behind makes it longer; a verdict that was refused or expired missed its
deadline, and is in no percentile.
"""

from __future__ import annotations

import argparse
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.errors import EngineLost
from batchyard.job import PRIORITIES, Job
from benchmarks.arrivals import poisson
from benchmarks.child import ROOT
from benchmarks.engine_client import completions, engine_child
from benchmarks.machine import this_machine
from benchmarks.percentiles import percentile
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, spread, write_json
from workers.engine_process import EngineProcess
from workers.requests import engine_request
from workers.start import free_cores

MODEL = ROOT / "models/defect_detect.Q4_K_M.gguf"
TASK = "defect_detect"
TEXTS = 500
LONG_EVERY = 5
REPORTS_IN_LONG = 4
SHARES = (0.5, 0.8, 0.95)
REPORT, LONG = "report", "long"


@dataclass(frozen=True, slots=True)
class Offer:
    """A job to submit: due in seconds from the start, `deadline` in seconds after that, None for a batch
    job."""

    due: float
    kind: str
    request: Mapping[str, Any]
    deadline: float | None


@dataclass
class Run:
    """What became of one run's jobs. Latencies in seconds by kind; verdicts in time, refused or expired;
    how late the benchmark itself was at worst."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: {REPORT: [], LONG: []})
    offered: dict[str, int] = field(default_factory=lambda: {REPORT: 0, LONG: 0})
    in_time: int = 0
    refused: int = 0
    lag: float = 0.0

    @property
    def share_in_time(self) -> float:
        """Of the verdicts that were due."""
        return self.in_time / self.offered[REPORT] if self.offered[REPORT] else float("nan")


class Mix:
    """Endless requests: short verdicts, and every fifth a long prompt of a batch job."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._texts = [report.text for report in labelled_reports(TEXTS)]

    def request(self, number: int) -> tuple[str, dict[str, Any]]:
        """Its kind and its request."""
        first, count = (number, 1) if number % LONG_EVERY else (number * REPORTS_IN_LONG, REPORTS_IN_LONG)
        prompt = "\n".join(self._texts[at % len(self._texts)] for at in range(first, first + count))
        kind = REPORT if count == 1 else LONG
        job = Job(task=TASK, prompt=prompt, priority=PRIORITIES["interactive" if kind == REPORT else "batch"])
        return kind, engine_request(job, TASK, self._catalogue, self._catalogue.model(TASK))

    def offers(self, times: Sequence[float], deadline: float) -> Iterator[Offer]:
        """A job for each time."""
        for number, due in enumerate(times):
            kind, request = self.request(number)
            yield Offer(due, kind, request, deadline if kind == REPORT else None)


def capacity(engine: EngineProcess, mix: Mix, slots: int, jobs: int) -> float:
    """Jobs a second with all slots kept full; a first quarter warms up and is not counted."""
    completions(engine, (mix.request(number)[1] for number in range(jobs // 4)), slots)
    began = time.perf_counter()
    completions(engine, (mix.request(number)[1] for number in range(jobs)), slots)
    return jobs / (time.perf_counter() - began)


def alone(engine: EngineProcess, mix: Mix, jobs: int) -> float:
    """The median seconds of a verdict when nothing else runs."""
    latencies = []
    for number in (number for number in range(1, 2 * jobs) if number % LONG_EVERY):
        began = time.perf_counter()
        completions(engine, [mix.request(number)[1]], 1)
        latencies.append(time.perf_counter() - began)
    return percentile(latencies, 0.5)


def run(engine: EngineProcess, offers: Sequence[Offer]) -> Run:
    """Submit each job when it is due and wait for the last answer.

    Raises:
        EngineLost: the engine died.
    """
    result = Run()
    inside: dict[str, tuple[Offer, float]] = {}
    began, wall = time.monotonic(), time.time()
    sent = 0
    while sent < len(offers) or inside:
        now = time.monotonic() - began
        while sent < len(offers) and offers[sent].due <= now:
            offer = offers[sent]
            request = dict(offer.request) | {"id": str(sent)}
            if offer.deadline is not None:
                request["deadline"] = wall + offer.due + offer.deadline
            engine.send({"op": "submit", "request": request})
            inside[str(sent)] = (offer, began + offer.due)
            result.offered[offer.kind] += 1
            result.lag = max(result.lag, now - offer.due)
            sent += 1
        patience = max(0.0, offers[sent].due - now) if sent < len(offers) else None
        select.select([engine], [engine.write_fd] if engine.unsent else [], [], patience)
        engine.flush()
        frames = engine.read()
        if frames is None:
            raise EngineLost(f"the engine died ({engine.end()})")
        for frame in frames:
            if frame["op"] in ("done", "failed"):
                _note(result, frame["op"], *inside.pop(frame["id"]))
    return result


def _note(result: Run, op: str, offer: Offer, due: float) -> None:
    latency = time.monotonic() - due
    if op == "failed":
        result.refused += 1
        return
    result.latencies[offer.kind].append(latency)
    result.in_time += offer.deadline is not None and latency <= offer.deadline


def body_of(found: Mapping[tuple[float, bool], Sequence[Run]], limits: str) -> str:
    """The table: percentiles from all samples of all rounds, shares as median and spread of the rounds."""
    rows = []
    for (share, control), runs in found.items():
        reports = [latency for one in runs for latency in one.latencies[REPORT]]
        long = [latency for one in runs for latency in one.latencies[LONG]]
        rows.append(
            [
                f"{100 * share:.0f} % of capacity",
                "on" if control else "off",
                str(sum(one.offered[REPORT] for one in runs)),
                f"{1000 * percentile(reports, 0.5):.0f}",
                f"{1000 * percentile(reports, 0.99):.0f}",
                spread([100 * one.share_in_time for one in runs]),
                str(sum(one.refused for one in runs)),
                f"{1000 * percentile(long, 0.5):.0f}",
                f"{1000 * percentile(long, 0.99):.0f}",
                f"{1000 * max(one.lag for one in runs):.0f}",
            ]
        )
    header = [
        "arrivals", "control", "verdicts", "P50 ms", "P99 ms", "% in time", "refused", "batch P50 ms",
        "batch P99 ms", "own lag ms",
    ]  # fmt: skip
    return f"{limits}\n\n{aligned(header, rows)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of arrivals in each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=free_cores())
    parser.add_argument("--capacity-jobs", type=int, default=400)
    parser.add_argument(
        "--deadline-factor", type=float, default=6.0, help="deadline over a verdict's time alone"
    )
    parser.add_argument(
        "--step-factor", type=float, default=0.5, help="step target over a verdict's time alone"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    mix = Mix(load_catalogue(ROOT / "configs/models.yaml"))
    shape = {"slots": options.slots, "n_ctx": 256, "threads": options.threads}
    found: dict[tuple[float, bool], list[Run]] = {
        (share, control): [] for share in SHARES for control in (False, True)
    }
    with ExitStack() as stack:
        off = stack.enter_context(engine_child(MODEL, **shape, more={"step_control": False}))
        most = capacity(off, mix, options.slots, options.capacity_jobs)
        single = alone(off, mix, 40)
        deadline, step = options.deadline_factor * single, options.step_factor * single
        targets = {"step_control": True, "target_step_ms": 1000 * step, "target_p99_ms": 1000 * deadline}
        on = stack.enter_context(engine_child(MODEL, **shape, more=targets))
        capacity(on, mix, options.slots, options.capacity_jobs)
        for number in range(options.rounds):
            for share in SHARES:
                offers = list(mix.offers(poisson(share * most, options.seconds, seed=number), deadline))
                for control in (False, True) if number % 2 == 0 else (True, False):
                    found[share, control].append(run(on if control else off, offers))
    limits = (
        f"capacity {most:.1f} jobs/s; a verdict alone {1000 * single:.0f} ms, "
        f"deadline {1000 * deadline:.0f} ms, step target {1000 * step:.0f} ms"
    )
    title = f"Poisson arrivals, {options.slots} slots, {options.threads} threads"
    show(title, machine, body_of(found, limits))
    figures = {
        "capacity": most, "alone": single, "deadline": deadline, "step": step,
        "runs": [
            {"share": share, "control": control, **asdict(one)}
            for (share, control), runs in found.items() for one in runs
        ],
    }  # fmt: skip
    write_json(options.json, "poisson", machine, figures)


if __name__ == "__main__":
    main()
