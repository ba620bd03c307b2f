"""How long interactive jobs take while 10,000 batch jobs wait, beside an idle yard: p50 and p99 in one run.

    python -m benchmarks.interactive [--rate 3] [--seconds 70] [--batch-jobs 10000] [--slots 16] [--json FILE]

The whole path: client, Redis, router, worker and engine, with the starter model. Interactive jobs arrive by
a Poisson process and do not wait for each other (open loop); a latency runs from when a job was due to when
its result is in the client's hands, so that a client that falls behind makes it longer, not rarer. The yard
is idle, busy, busy and idle in turn; an idle and a busy phase have the same arrivals. Before a busy one the
pile is submitted and the worker has answered the first of it; behind it the rest is cancelled. The pile must
outlast the arrivals: the run fails if it does not.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from batchyard import AsyncClient, Client
from batchyard.errors import YardError
from batchyard.result import Result
from benchmarks.arrivals import poisson
from benchmarks.machine import this_machine
from benchmarks.percentiles import percentile
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, spread, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.start import free_cores

TASK_NAME = "defect_detect"
TEXTS = 500
WARM_UP_JOBS = 32
RESULT_SECONDS = 300.0
IDLE, BUSY = "idle", "busy"
YARDS = (IDLE, BUSY, BUSY, IDLE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One interactive job: its latency, and the part of it that each stage says it took, in seconds."""

    latency: float
    queue: float
    waiting: float
    computing: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Phase:
    """One turn: the yard's state, and on a busy one how many of the pile's jobs waited at the end and how
    many were done a second."""

    yard: str
    samples: list[Sample]
    left: int = 0
    rate: float = 0.0


def sample(latency: float, result: Result) -> Sample:
    """What is kept of a result. `queue` is the way from the client to the worker; `waiting` and `computing`
    are the engine's."""
    timings = result.timings
    queue = timings.queue_s + timings.route_s + timings.broker_s
    return Sample(latency, queue, timings.wait_s, timings.prefill_s + timings.decode_s, result.ok)


async def ask(bench: Bench, times: Sequence[float], texts: Sequence[str]) -> list[Sample]:
    """Submit an interactive job at each of the times, whatever has become of the others."""
    async with AsyncClient(bench.settings) as client:
        began = asyncio.get_running_loop().time()

        async def one(number: int, due: float) -> Sample:
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, began + due - loop.time()))
            text = texts[number % len(texts)]
            job_id = await client.submit(task=TASK_NAME, prompt=text, priority="interactive")
            result = await client.result(job_id, timeout=RESULT_SECONDS)
            return sample(loop.time() - began - due, result)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number, due)) for number, due in enumerate(times)]
    return [task.result() for task in tasks]


def pile_up(client: Client, jobs: int, texts: Sequence[str]) -> str:
    """Submit the batch jobs and wait until the worker answers the first of them; returns the batch."""
    rows = (
        {"task": TASK_NAME, "prompt": f"{number}: {texts[number % len(texts)]}"} for number in range(jobs)
    )
    batch = client.submit_many(rows).batch
    next(iter(client.results(batch, timeout=RESULT_SECONDS)))
    return batch


def settle(client: Client, texts: Sequence[str]) -> None:
    """Run some batch jobs: behind them nothing waits any more, and the engine is warm."""
    last = client.submit_many({"task": TASK_NAME, "prompt": text} for text in texts[:WARM_UP_JOBS])
    list(client.results(last.batch, timeout=RESULT_SECONDS))


def measure(bench: Bench, slots: int, arrivals: Sequence[Sequence[float]], batch_jobs: int) -> list[Phase]:
    """A phase for each of `YARDS`, the first two with the first arrivals, the others with the second."""
    texts = [report.text for report in labelled_reports(TEXTS)]
    phases = []
    with our_yard(bench, TASK_NAME, slots) as client:
        for number, yard in enumerate(YARDS):
            settle(client, texts)
            times = arrivals[number // 2]
            phase = (
                Phase(yard, asyncio.run(ask(bench, times, texts)))
                if yard == IDLE
                else beside_a_pile(bench, client, times, batch_jobs, texts)
            )
            phases.append(phase)
            p99 = 1e3 * percentile([one.latency for one in phase.samples], 0.99)
            print(f"phase {number + 1}, {yard}: p99 {p99:.1f} ms", file=sys.stderr, flush=True)
    return phases


def beside_a_pile(
    bench: Bench, client: Client, times: Sequence[float], batch_jobs: int, texts: Sequence[str]
) -> Phase:
    """A busy phase: the pile, the arrivals beside it, and what is left of it cancelled."""
    batch = pile_up(client, batch_jobs, texts)
    before, began = client.batch(batch).done, time.perf_counter()
    samples = asyncio.run(ask(bench, times, texts))
    status, seconds = client.batch(batch), time.perf_counter() - began
    client.cancel_batch(batch)
    return Phase(BUSY, samples, batch_jobs - status.done, (status.done - before) / seconds)


def body_of(phases: Sequence[Phase]) -> str:
    """The table: each yard over all samples, then phase by phase."""
    yards = {
        yard: [one for phase in phases if phase.yard == yard for one in phase.samples]
        for yard in (IDLE, BUSY)
    }
    idle = [one.latency for one in yards[IDLE]]
    rows = [_row(f"{yard}, all", samples, idle) for yard, samples in yards.items()]
    rows += [_row(f"{n}: {phase.yard}", phase.samples, idle) for n, phase in enumerate(phases, 1)]
    header = [
        "yard", "jobs", "p50 ms", "p99 ms", "p50 x idle", "p99 x idle", "on the way", "waiting", "computing",
        "failed",
    ]  # fmt: skip
    busy = [phase for phase in phases if phase.yard == BUSY]
    rates = spread([phase.rate for phase in busy])
    left = min(phase.left for phase in busy)
    return f"{aligned(header, rows)}\n\nmeanwhile {rates} batch jobs/s; {left} still waited at least"


def _row(name: str, samples: Sequence[Sample], idle: Sequence[float]) -> list[str]:
    latencies = [one.latency for one in samples]
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    parts = [
        f"{1e3 * median(getattr(one, part) for one in samples):.1f}"
        for part in ("queue", "waiting", "computing")
    ]
    ratios = [f"{p50 / percentile(idle, 0.5):.2f}", f"{p99 / percentile(idle, 0.99):.2f}"]
    failed = sum(not one.ok for one in samples)
    return [name, str(len(samples)), f"{1e3 * p50:.1f}", f"{1e3 * p99:.1f}", *ratios, *parts, str(failed)]


def main() -> int:
    """Measure and print; exit status 1 if a job failed or the pile did not last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interactive", description=__doc__)
    parser.add_argument("--rate", type=float, default=3.0, help="interactive jobs a second, on the mean")
    parser.add_argument("--seconds", type=float, default=70.0, help="of arrivals in each of the four phases")
    parser.add_argument("--batch-jobs", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    arrivals = [poisson(options.rate, options.seconds, options.seed + number) for number in range(2)]
    try:
        with own_redis(machine, options.threads or free_cores()) as (bench, machine):
            phases = measure(bench, options.slots, arrivals, options.batch_jobs)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = (
        f"Interactive jobs ({options.rate:g}/s for {options.seconds:g} s, four times) beside "
        f"{options.batch_jobs} batch jobs, {options.slots} slots, {bench.threads} threads"
    )
    show(title, machine, body_of(phases))
    write_json(options.json, "interactive", machine, [asdict(phase) for phase in phases])
    failed = any(not one.ok for phase in phases for one in phase.samples)
    return 1 if failed or any(phase.yard == BUSY and phase.left <= 0 for phase in phases) else 0


if __name__ == "__main__":
    sys.exit(main())
