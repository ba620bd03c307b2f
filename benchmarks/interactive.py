"""How long interactive jobs take while 10,000 batch jobs wait, beside an idle yard: p50 and p99 in one run.

    python -m benchmarks.interactive [--rate 5] [--seconds 60] [--batch-jobs 10000] [--slots 16] [--json FILE]

The whole path: client, Redis, router, worker and engine, with the starter model. Interactive jobs arrive by
a Poisson process and do not wait for each other (open loop); a latency runs from when a job was due to when
its result is in the client's hands, so that a client that falls behind makes it longer, not rarer. First the
yard is otherwise idle; then the pile is submitted, and the same arrivals come again while the worker is busy
with it. The pile must outlast them: the run fails if it does not.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import redis

from batchyard import AsyncClient, Client
from batchyard.errors import YardError
from batchyard.result import Result
from benchmarks.arrivals import poisson
from benchmarks.machine import this_machine
from benchmarks.percentiles import percentile
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, write_json
from benchmarks.yard import Bench, our_yard
from local.redis_server import start_redis
from workers.start import free_cores

TASK_NAME = "defect_detect"
TEXTS = 500
WARM_UP_JOBS = 32
RESULT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One interactive job: its latency, and the part of it that each stage says it took, in seconds."""

    latency: float
    queue: float
    waiting: float
    computing: float
    ok: bool


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


def measure(
    bench: Bench, slots: int, times: Sequence[float], batch_jobs: int
) -> tuple[dict[str, list[Sample]], int, float]:
    """Latencies on the idle and on the busy yard, how many batch jobs still waited at the end, and the batch
    jobs a second that were done meanwhile."""
    texts = [report.text for report in labelled_reports(TEXTS)]
    with our_yard(bench, TASK_NAME, slots) as client:
        warm = client.submit_many({"task": TASK_NAME, "prompt": text} for text in texts[:WARM_UP_JOBS])
        list(client.results(warm.batch, timeout=RESULT_SECONDS))
        idle = asyncio.run(ask(bench, times, texts))
        batch = pile_up(client, batch_jobs, texts)
        before, began = client.batch(batch).done, time.perf_counter()
        busy = asyncio.run(ask(bench, times, texts))
        status, seconds = client.batch(batch), time.perf_counter() - began
    return {"idle": idle, "busy": busy}, batch_jobs - status.done, (status.done - before) / seconds


def body_of(found: dict[str, list[Sample]], left: int, rate: float) -> str:
    """The table."""
    rows = []
    idle = [one.latency for one in found["idle"]]
    for name, samples in found.items():
        latencies = [one.latency for one in samples]
        p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
        parts = [
            f"{1e3 * median(getattr(one, part) for one in samples):.1f}"
            for part in ("queue", "waiting", "computing")
        ]
        ratios = [f"{p50 / percentile(idle, 0.5):.2f}", f"{p99 / percentile(idle, 0.99):.2f}"]
        failed = sum(not one.ok for one in samples)
        rows.append(
            [name, str(len(samples)), f"{1e3 * p50:.1f}", f"{1e3 * p99:.1f}", *ratios, *parts, str(failed)]
        )
    header = [
        "yard", "jobs", "p50 ms", "p99 ms", "p50 x idle", "p99 x idle", "on the way", "waiting", "computing",
        "failed",
    ]  # fmt: skip
    return f"{aligned(header, rows)}\n\nmeanwhile {rate:.1f} batch jobs/s; {left} still waited at the end"


def main() -> int:
    """Measure and print; exit status 1 if a job failed or the pile did not last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interactive", description=__doc__)
    parser.add_argument("--rate", type=float, default=5.0, help="interactive jobs a second, on the mean")
    parser.add_argument("--seconds", type=float, default=60.0, help="of arrivals, twice")
    parser.add_argument("--batch-jobs", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    times = poisson(options.rate, options.seconds, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder), append_only=True, password="benchmark")
        try:
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                machine = machine.running("Redis", str(client.info("server")["redis_version"]))
            bench = Bench(server.url, options.threads or free_cores(), Path(folder))
            found, left, rate = measure(bench, options.slots, times, options.batch_jobs)
        except YardError as exc:
            print(f"error: {exc}", file=sys.stderr)
            return 2
        finally:
            server.stop()
    title = (
        f"Interactive jobs ({options.rate:g}/s for {options.seconds:g} s) beside {options.batch_jobs} batch "
        f"jobs, {options.slots} slots, {bench.threads} threads"
    )
    show(title, machine, body_of(found, left, rate))
    samples = {name: [asdict(one) for one in samples] for name, samples in found.items()}
    figures = {"samples": samples, "left": left, "batch_jobs_per_s": rate}
    write_json(options.json, "interactive", machine, figures)
    failed = any(not one.ok for samples in found.values() for one in samples)
    return 1 if failed or left <= 0 else 0


if __name__ == "__main__":
    sys.exit(main())
