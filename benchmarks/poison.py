"""Jobs that abort their engine among many that do not: do the others all succeed, and what does it cost?

    python -m benchmarks.poison [--jobs 1000] [--poison 5] [--slots 16] [--seed 1] [--json FILE]

The whole path: client, Redis, router, one worker and its engine, with the starter model. The engine's test
hook (`BATCHYARD_ENGINE_ABORT_ON`) aborts its process in the step after a marked job has come, as a fault in
native code does. The same number of jobs without a mark runs before in the same yard. Exit status 1 unless
every other job succeeds, each marked one is a dead letter with the signal SIGABRT, and every message is
acknowledged.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import redis

from batchyard import Client, dead, store
from batchyard.app import make_app
from batchyard.dead import Letter
from batchyard.errors import YardError
from batchyard.names import UNACKED_KEY
from batchyard.result import Result
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.engine.abort_on import VARIABLE
from workers.start import free_cores

TASK_NAME = "defect_detect"
MARK = "this report aborts the engine"
TEXTS = 500
WARM_UP_JOBS = 32
RESULT_SECONDS = 600.0
SIGNAL = "signal SIGABRT"


@dataclass(frozen=True, slots=True)
class Run:
    """One pile: how many of its jobs were marked, how many succeeded, what ended as it should not (with its
    code), how many marked ones are dead letters of the engine's signal, how often the engine was started
    again, messages left over."""

    name: str
    jobs: int
    marked: int
    succeeded: int
    wrong: list[str]
    buried: int
    restarts: int
    seconds: float
    unacknowledged: int

    @property
    def holds(self) -> bool:
        """Whether nothing was lost and nobody failed but those who were to."""
        expected = self.jobs - self.marked
        return (
            self.succeeded == expected
            and not self.wrong
            and self.buried == self.marked
            and not self.unacknowledged
        )


def prompts(count: int, marked: Sequence[int], texts: Sequence[str]) -> Iterator[dict[str, object]]:
    """The jobs of a pile; those at the positions `marked` abort the engine."""
    for number in range(count):
        text = f"{number}: {texts[number % len(texts)]}"
        marking = f" {MARK}" if number in marked else ""
        yield {
            "task": TASK_NAME, "prompt": text + marking,
            "metadata": {"marked": number in marked},
        }  # fmt: skip


def judged(
    name: str, results: Sequence[Result], marked: Sequence[str], letters: Sequence[Letter],
    restarts: int, seconds: float, unacknowledged: int,
) -> Run:  # fmt: skip
    """The verdict on a pile. `marked` are the ids of the jobs that were to end as dead letters."""
    ended = {result.job_id: result for result in results}
    wrong = [
        f"{job_id}: {'succeeded' if result.error is None else result.error.code}"
        for job_id, result in ended.items()
        if (result.error is not None and result.error.code != "poison") or result.ok == (job_id in marked)
    ]
    buried = {one.id for one in letters if one.kind == "poison" and one.exit == SIGNAL}
    return Run(
        name, len(results), len(marked), sum(result.ok for result in results), wrong,
        len(buried & set(marked)), restarts, seconds, unacknowledged,
    )  # fmt: skip


def restarts_of(bench: Bench) -> int:
    """How often the worker's engine was started again."""
    with make_app(bench.settings) as app:
        answers = app.control.inspect(timeout=5.0).stats() or {}
    return sum(
        int(answer["pool"]["engine"]["restarts"])
        for answer in answers.values()
        if "engine" in answer.get("pool", {})
    )


def run(
    bench: Bench, client: Client, name: str, count: int, marked: Sequence[int], texts: Sequence[str]
) -> Run:
    """Submit a pile and wait for all of it."""
    before, began = restarts_of(bench), time.perf_counter()
    handle = client.submit_many(prompts(count, marked, texts))
    results = list(client.results(handle.batch, timeout=RESULT_SECONDS))
    seconds = time.perf_counter() - began
    restarts = restarts_of(bench) - before  # asks the worker, which by then has acknowledged what it stored
    with redis.Redis.from_url(bench.url) as raw:
        ids = store.run(raw, store.batch_jobs(handle.batch, 0, count))
        letters = store.run(raw, dead.letters())
        unacknowledged = int(raw.hlen(UNACKED_KEY))
    return judged(
        name, results, [ids[number] for number in marked], letters, restarts, seconds, unacknowledged
    )


def measure(bench: Bench, slots: int, jobs: int, poison: int, seed: int) -> list[Run]:
    """The undisturbed pile, then the one with poison in it, in the same yard."""
    texts = [report.text for report in labelled_reports(TEXTS)]
    marked = sorted(random.Random(seed).sample(range(jobs), poison))
    with our_yard(bench, TASK_NAME, slots) as client:
        list(client.results(client.submit_many(prompts(WARM_UP_JOBS, (), texts)).batch))
        return [
            run(bench, client, "undisturbed", jobs, (), texts),
            run(bench, client, f"{poison} abort the engine", jobs, marked, texts),
        ]


def body_of(runs: Sequence[Run]) -> str:
    """The table, and what failed below it."""
    header = [
        "pile", "jobs", "succeeded", "dead letters", "engine restarts", "left unacknowledged", "seconds",
        "x undisturbed", "",
    ]  # fmt: skip
    rows = [
        [
            one.name, str(one.jobs), str(one.succeeded), str(one.buried), str(one.restarts),
            str(one.unacknowledged), f"{one.seconds:.1f}", f"{one.seconds / runs[0].seconds:.2f}",
            "holds" if one.holds else "FAILS",
        ]
        for one in runs
    ]  # fmt: skip
    wrong = [line for one in runs for line in one.wrong[:10]]
    return "\n".join([aligned(header, rows), *wrong])


def main() -> int:
    """Measure and print; exit status 1 if a guarantee does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poison", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--poison", type=int, default=5, help="how many of them abort the engine")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--seed", type=int, default=1, help="of the positions of those that abort it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ[VARIABLE] = MARK
    machine = this_machine()
    try:
        with own_redis(machine, options.threads or free_cores()) as (bench, machine):
            runs = measure(bench, options.slots, options.jobs, options.poison, options.seed)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = f"Poison: {options.poison} of {options.jobs} jobs abort the engine, {options.slots} slots, "
    show(f"{title}{bench.threads} threads, seed {options.seed}", machine, body_of(runs))
    write_json(options.json, "poison", machine, [asdict(one) for one in runs])
    return 0 if all(one.holds for one in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
