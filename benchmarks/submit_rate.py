"""Submitting a pile: jobs/s, the client's memory and Redis's, beside Celery's own `send_task`.

    python -m benchmarks.submit_rate [--jobs 100000] [--naive-jobs 5000] [--rounds 3] [--json FILE]

The jobs come from a generator and go through `Client.submit_many` into a Redis of its own, append-only file
on. Nobody consumes them. Every measurement is a fresh process, so that its memory is its own; the resident
memory is read as the generator passes 10 %, 50 % and 100 % of the jobs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import redis

from batchyard import Client, Settings
from benchmarks.child import ROOT
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, ratio, show, spread, write_json
from local.redis_server import start_redis

MARKS = (0.1, 0.5, 1.0)
TEXTS = 500


@dataclass(frozen=True, slots=True)
class Submission:
    """One measurement: jobs and the seconds they took; `memory` is the process's resident memory in bytes
    by the number of jobs taken from the generator, `base` before the first, `peak` the highest."""

    jobs: int
    seconds: float
    cpu_seconds: float
    base: int
    peak: int
    memory: dict[str, int]

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


class Meter:
    """A generator of jobs that reads the process's memory on the way."""

    def __init__(self, count: int) -> None:
        self._texts = [report.text for report in labelled_reports(TEXTS)]
        self._count = count
        self._marks = {max(1, round(count * mark)) for mark in MARKS}
        self.memory: dict[str, int] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(1, self._count + 1):
            yield {"task": "defect_detect", "prompt": f"Board {number}: {self._texts[number % TEXTS]}"}
            if number in self._marks:
                self.memory[str(number)] = resident_bytes()


def resident_bytes(field: str = "VmRSS", process: int | str = "self") -> int:
    """Resident memory of a process now, or its highest so far (`VmHWM`).

    Not from getrusage: its peak begins with that of the process that started this one.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def submit_ours(url: str, count: int) -> Submission:
    """Submit through the client."""
    with Client(Settings(redis_url=url)) as client:
        client.submit({"task": "defect_detect", "prompt": "the first one pays for the connection"})
        return _measured(count, lambda meter: client.submit_many(meter))


def submit_naive(url: str, count: int) -> Submission:
    """Submit with a stock Celery app, one `send_task` a job."""
    from celery import Celery

    app = Celery("naive", broker=url, backend=url, set_as_current=False)
    app.send_task("naive.run", kwargs={"prompt": "the first one pays for the connection"})

    def send(meter: Meter) -> None:
        for job in meter:
            app.send_task("naive.run", kwargs=job)

    return _measured(count, send)


def _measured(count: int, submit: Any) -> Submission:
    meter = Meter(count)
    base, cpu, began = resident_bytes(), time.process_time(), time.perf_counter()
    submit(meter)
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    return Submission(count, seconds, cpu, base, resident_bytes("VmHWM"), meter.memory)


DESIGNS = {"submit_many": submit_ours, "send_task": submit_naive}


def in_fresh_process(design: str, url: str, count: int) -> Submission:
    """A measurement in a process of its own; the URL goes through its input, for it carries a password."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.submit_rate", "--design", design, "--jobs", str(count)],
        input=url, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{design} failed:\n{done.stderr.strip()}")
    return Submission(**json.loads(done.stdout))


def compare(counts: dict[str, int], rounds: int) -> tuple[dict[str, list[Submission]], list[float], str]:
    """The measurements by design, Redis's bytes a job of ours, and Redis's version."""
    found: dict[str, list[Submission]] = {name: [] for name in counts}
    redis_bytes = []
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder), append_only=True, password="benchmark")
        try:
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                for _ in range(rounds):
                    for design, count in counts.items():
                        client.flushall()
                        before = int(client.info("memory")["used_memory"])
                        found[design].append(in_fresh_process(design, server.url, count))
                        if design == "submit_many":
                            used = int(client.info("memory")["used_memory"]) - before
                            redis_bytes.append(used / count)
                version = str(client.info("server")["redis_version"])
        finally:
            server.stop()
    return found, redis_bytes, version


def body_of(found: dict[str, list[Submission]], redis_bytes: list[float]) -> str:
    """The table."""
    rows = []
    for design, runs in found.items():
        growth = [f"{(run.peak - run.base) / 1e6:.1f}" for run in runs]
        rows.append(
            [
                design,
                f"{runs[0].jobs:,}",
                spread([run.rate for run in runs], 0),
                f"{1e6 * median(run.cpu_seconds / run.jobs for run in runs):.0f}",
                max(growth, key=float),
            ]
        )
    ours = found["submit_many"]
    base = median(run.base for run in ours)
    marks = ", ".join(
        f"{int(mark):,} jobs {(median(run.memory[mark] for run in ours) - base) / 1e6:+.1f} MB"
        for mark in ours[0].memory
    )
    times = ratio([run.rate for run in ours], [run.rate for run in found["send_task"]])
    header = ["design", "jobs", "jobs/s (least-most)", "client CPU us/job", "peak growth MB"]
    return "\n".join(
        [
            aligned(header, rows),
            "",
            f"submit_many is {times:.1f} times as fast as send_task",
            f"client memory beyond its {base / 1e6:.0f} MB at the start: {marks}",
            f"Redis holds {median(redis_bytes):,.0f} bytes a job",
        ]
    )


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.submit_rate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--naive-jobs", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--design", choices=sorted(DESIGNS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.design:
        print(json.dumps(asdict(DESIGNS[arguments.design](sys.stdin.read(), arguments.jobs))))
        return
    machine = this_machine()
    counts = {"submit_many": arguments.jobs, "send_task": arguments.naive_jobs}
    found, redis_bytes, version = compare(counts, arguments.rounds)
    machine = machine.running("Redis", version)
    show(f"Submission, {arguments.rounds} rounds in turns", machine, body_of(found, redis_bytes))
    figures = {
        "runs": {design: [asdict(run) for run in runs] for design, runs in found.items()},
        "jobs_per_s": {design: median(run.rate for run in runs) for design, runs in found.items()},
        "redis_bytes_per_job": redis_bytes,
    }
    write_json(arguments.json, "submit_rate", machine, figures)


if __name__ == "__main__":
    main()
