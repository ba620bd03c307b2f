"""What the guarantees cost: the same jobs through the same roles with them and without, in turns in one run.

    python -m benchmarks.guarantees [--jobs 2000] [--starter-jobs 300] [--rounds 3] [--json FILE]

With: pop and record in one call, leases, late acknowledgement, states, compare-and-set results, batch
counters and streams, fair flows, the janitor; with the record for the audit, and without it. Without
(`altered.py`): kombu's Redis transport and Celery's result backend as they are, with late acknowledgement and
with Celery's default, early. An engine of no cost shows the queue alone; the starter model shows what is left
of it beside work. A run's time goes from the first submission until the client has every result.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import redis

from batchyard import Client, Settings, names, store
from batchyard.app import make_app
from batchyard.errors import YardError, YardUnavailable
from batchyard.result import Result
from batchyard.submission import Known, prepare
from batchyard.wire import task_message
from benchmarks.altered import GUARANTEED, STOCK_EARLY, STOCK_LATE
from benchmarks.child import consumer
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, ratio, show, spread, write_json
from benchmarks.two_engines import NO_COST, STARTER, TASKS, write_configs
from benchmarks.yard import Bench, own_redis
from workers.start import free_cores

AUDITED = "guaranteed, audited"
DESIGNS = {
    AUDITED: GUARANTEED,
    "guaranteed": GUARANTEED,
    "stock, late acks": STOCK_LATE,
    "stock, early acks": STOCK_EARLY,
}
"""What is measured, and the design of its roles."""
REFERENCE = "stock, early acks"
WARM_UP_JOBS = 64
RESULT_SECONDS = 300.0
POLL_SECONDS = 0.01
PAGE = 500


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `commands` are Redis's, those inside scripts counted too; the rest are CPU seconds:
    of Redis, of the worker's Celery process, of the router, of the client."""

    design: str
    model: str
    jobs: int
    seconds: float
    failed: int
    commands: int
    redis_cpu: float
    worker_cpu: float
    router_cpu: float
    client_cpu: float

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True)
class Meter:
    """What Redis and the processes have used so far."""

    commands: int
    redis: float
    worker: float
    router: float
    client: float


def read_meter(raw: redis.Redis, worker: int, router: int) -> Meter:
    """The counters now; the worker's are those of its Celery process, without its engine."""
    calls = sum(int(row["calls"]) for row in raw.info("commandstats").values())
    cpu = raw.info("cpu")
    return Meter(
        calls, cpu["used_cpu_user"] + cpu["used_cpu_sys"], cpu_seconds(worker), cpu_seconds(router),
        time.process_time(),
    )  # fmt: skip


def cpu_seconds(process: int) -> float:
    """Processor time of a process and its threads, without its children."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def jobs_for(model: str, count: int, prefix: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Jobs with ids of their own."""
    raw = model == NO_COST
    return [
        {"id": f"{prefix}-{number}", "task": TASKS[model], "prompt": texts[number % len(texts)], "raw": raw}
        for number in range(count)
    ]


def through_client(client: Client, jobs: list[dict[str, Any]], batch: str) -> list[Result]:
    """Submit a batch and read its results as they come."""
    client.submit_many(jobs, batch=batch)
    return list(client.results(batch, timeout=RESULT_SECONDS))


def through_lists(raw: redis.Redis, settings: Settings, jobs: list[dict[str, Any]]) -> list[Result]:
    """The same without the store: chunks pushed for the router, results asked for until all are there."""
    size = settings.chunk_size
    for start in range(0, len(jobs), size):
        chunk = [
            prepare(job, Known(), settings.max_prompt_bytes, index=index)
            for index, job in enumerate(jobs[start : start + size])
        ]
        body = f'{{"jobs":[{",".join(job.body for job in chunk)}],"submitted":{time.time()}}}'
        priority = min(job.priority for job in chunk)
        message = task_message(
            names.ROUTE_TASK, f"route-{chunk[0].id}", body, names.ROUTE_QUEUE, priority, ignore_result=True
        )
        raw.lpush(names.priority_queue(names.ROUTE_QUEUE, priority), message)
    return _polled(raw, deque(str(job["id"]) for job in jobs))


def _polled(raw: redis.Redis, waiting: deque[str]) -> list[Result]:
    found: list[Result] = []
    limit = time.monotonic() + RESULT_SECONDS
    while waiting:
        page = [waiting.popleft() for _ in range(min(PAGE, len(waiting)))]
        left = []
        for job_id, document in zip(page, store.run(raw, store.documents(page)), strict=True):
            result = store.result_of(job_id, document)
            if result is None:
                left.append(job_id)
            else:
                found.append(result)
        waiting.extendleft(reversed(left))
        if len(left) == len(page):
            if time.monotonic() > limit:
                raise YardUnavailable(f"{len(waiting)} jobs have no result after {RESULT_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
    return found


def measure_one(bench: Bench, design: str, model: str, count: int, texts: Sequence[str]) -> Run:
    """One run on an empty Redis, with roles of its own.

    Raises:
        YardError: a role did not come up, or a result did not come.
    """
    roles = DESIGNS[design]
    environment = bench.environment(bench.url)
    worker_command = [
        "benchmarks.altered", roles, "workers", "--model", model, "--gpu", "none",
        "--threads", str(bench.threads), "--log-level", "WARNING",
    ]  # fmt: skip
    router_command = ["benchmarks.altered", roles, "router", "worker"]
    with ExitStack() as stack:
        raw = stack.enter_context(redis.Redis.from_url(bench.url))
        raw.flushall()
        if design == AUDITED:
            raw.set(names.AUDITING_KEY, 1)
        app = stack.enter_context(make_app(bench.settings))
        queue, logs = names.model_queue(model), bench.folder
        router = stack.enter_context(
            consumer(app, names.ROUTE_QUEUE, router_command, environment, logs / "router.log")
        )
        worker = stack.enter_context(consumer(app, queue, worker_command, environment, logs / "worker.log"))
        client = stack.enter_context(Client(bench.settings))

        def run(jobs: list[dict[str, Any]], batch: str) -> list[Result]:
            if roles == GUARANTEED:
                return through_client(client, jobs, batch)
            return through_lists(raw, bench.settings, jobs)

        run(jobs_for(model, WARM_UP_JOBS, "warm", texts), "warm")
        jobs = jobs_for(model, count, "job", texts)
        before, began = read_meter(raw, worker, router), time.perf_counter()
        results = run(jobs, "measured")
        seconds, after = time.perf_counter() - began, read_meter(raw, worker, router)
    failed = count - sum(result.ok for result in results)
    return Run(
        design, model, count, seconds, failed, after.commands - before.commands, after.redis - before.redis,
        after.worker - before.worker, after.router - before.router, after.client - before.client,
    )  # fmt: skip


def measure(bench: Bench, jobs: dict[str, int], rounds: int) -> list[Run]:
    """All designs in turns, with each model; the order turns round every other time."""
    texts = [report.text for report in labelled_reports(PAGE)]
    runs = []
    for model, count in jobs.items():
        for number in range(rounds):
            for design in DESIGNS if number % 2 == 0 else reversed(DESIGNS):
                run = measure_one(bench, design, model, count, texts)
                runs.append(run)
                print(
                    f"{model}, round {number + 1}: {design}: {run.rate:.1f} jobs/s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    return runs


def body_of(runs: Sequence[Run]) -> str:
    """A table for each model."""
    parts = []
    for model in dict.fromkeys(run.model for run in runs):
        here = [run for run in runs if run.model == model]
        reference = [run.rate for run in here if run.design == REFERENCE]
        rows = [_row(design, [run for run in here if run.design == design], reference) for design in DESIGNS]
        header = [
            f"{model}, {here[0].jobs} jobs", "jobs/s (least-most)", "ratio", "Redis commands", "Redis CPU ms",
            "worker CPU ms", "router CPU ms", "client CPU ms", "failed",
        ]  # fmt: skip
        parts.append(aligned(header, rows))
    return "\n\n".join([*parts, "commands and CPU are a job's; the ratio is to the last row"])


def _row(design: str, runs: Sequence[Run], reference: Sequence[float]) -> list[str]:
    rates = [run.rate for run in runs]
    cpu = [
        f"{1e3 * median(getattr(run, part) / run.jobs for run in runs):.2f}"
        for part in ("redis_cpu", "worker_cpu", "router_cpu", "client_cpu")
    ]
    commands = f"{median(run.commands / run.jobs for run in runs):.1f}"
    failed = str(sum(run.failed for run in runs))
    return [design, spread(rates), f"{ratio(rates, reference):.2f}", commands, *cpu, failed]


def main() -> int:
    """Measure in turns and print; exit status 1 if a job failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guarantees", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="a run with the engine of no cost")
    parser.add_argument("--starter-jobs", type=int, default=300, help="a run with the starter model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    try:
        with own_redis(machine, options.threads or free_cores()) as (bench, machine):
            configs = write_configs(bench.folder, options.slots)
            bench = Bench(bench.url, bench.threads, bench.folder, configs)
            wanted = {NO_COST: options.jobs, STARTER: options.starter_jobs}
            runs = measure(bench, {model: count for model, count in wanted.items() if count}, options.rounds)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = (
        f"The cost of the guarantees: {options.slots} slots, {bench.threads} threads a step, "
        f"{options.rounds} rounds in turns"
    )
    show(title, machine, body_of(runs))
    write_json(options.json, "guarantees", machine, [asdict(run) for run in runs])
    return 1 if any(run.failed for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
