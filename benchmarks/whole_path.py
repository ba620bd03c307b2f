"""Jobs/s through the whole path, from `submit` to the last result, beside a naive Celery worker.

    python -m benchmarks.whole_path [--slots 1 4 16 32] [--jobs 200] [--rounds 3] [--json FILE]

Ours: client, Redis, router and one worker with so many slots, each a process of its own. Naive: one Celery
task around `llama_cpp.Llama` (`benchmarks/naive.py`), pools `solo` and `threads`. Both get the same reports,
instruction, JSON schema, answer length, greedy sampling, threads, OpenMP settings and Redis. The designs take
turns, only one runs at a time, and starting and warming up are not counted. Answers are held against the
labels and against each other.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from batchyard import Client
from batchyard.errors import YardError
from benchmarks.child import consumer
from benchmarks.machine import this_machine
from benchmarks.naive import QUEUE, TASK, make_naive_app
from benchmarks.reports import Labelled, labelled_reports, share_right
from benchmarks.table import aligned, ratio, show, spread, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.start import free_cores

TASK_NAME = "defect_detect"
WARM_UP_JOBS = 8
RESULT_SECONDS = 300.0
NAIVE_POOLS = {"naive, solo": ("solo", 1), "naive, threads": ("threads", 4)}


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement. `answers` are texts by report; `mean_batch` the mean number of sequences a step."""

    design: str
    jobs: int
    seconds: float
    failed: int
    mean_batch: float
    answers: dict[str, str]

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds


def run_ours(bench: Bench, slots: int, reports: Sequence[Labelled]) -> Run:
    """One measurement of the yard with so many slots."""
    with our_yard(bench, TASK_NAME, slots) as client:
        _submit_and_wait(client, reports[:WARM_UP_JOBS])
        return _submit_and_wait(client, reports, design_name(slots))


def design_name(slots: int) -> str:
    """The row of a slot count."""
    return f"batchyard, {slots} slot{'s' if slots > 1 else ''}"


def _submit_and_wait(client: Client, reports: Sequence[Labelled], design: str = "warm-up") -> Run:
    began = time.perf_counter()
    batch = client.submit_many(
        {"task": TASK_NAME, "prompt": report.text, "metadata": {"number": number}}
        for number, report in enumerate(reports)
    ).batch
    results = list(client.results(batch, timeout=RESULT_SECONDS))
    seconds = time.perf_counter() - began
    good = [result for result in results if result.ok]
    answers = {reports[int(str(result.metadata["number"]))].text: result.text or "" for result in good}
    batches = [result.timings.mean_batch for result in good]
    return Run(
        design, len(results), seconds, len(results) - len(good), mean(batches) if batches else 0.0, answers
    )


def run_naive(bench: Bench, design: str, reports: Sequence[Labelled]) -> Run:
    """One measurement of the naive worker."""
    pool, concurrency = NAIVE_POOLS[design]
    command = [
        "benchmarks.naive", "--model", TASK_NAME, "--pool", pool,
        "--concurrency", str(concurrency), "--threads", str(bench.threads),
    ]  # fmt: skip
    log = bench.folder / f"naive-{pool}.log"
    with (
        make_naive_app(bench.naive_url) as app,
        consumer(app, QUEUE, command, bench.environment(bench.naive_url), log),
    ):
        for handle in [app.send_task(TASK, [report.text]) for report in reports[:WARM_UP_JOBS]]:
            handle.get(timeout=RESULT_SECONDS)
        began = time.perf_counter()
        handles = [app.send_task(TASK, [report.text]) for report in reports]
        texts = [handle.get(timeout=RESULT_SECONDS, propagate=False) for handle in handles]
        seconds = time.perf_counter() - began
        failed = sum(handle.failed() for handle in handles)
    pairs = zip(reports, texts, strict=True)
    answers = {report.text: text for report, text in pairs if isinstance(text, str)}
    return Run(design, len(reports), seconds, failed, 1.0, answers)


def parsed(answers: dict[str, str]) -> dict[str, object]:
    """The JSON documents in the answers; an answer that is none stays text."""
    return {report: _document(text) for report, text in answers.items()}


def _document(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def differing(answers: dict[str, str], reference: dict[str, str]) -> int:
    """How many reports of the reference got another document, or none."""
    ours, theirs = parsed(answers), parsed(reference)
    return sum(ours.get(report) != document for report, document in theirs.items())


def measure(bench: Bench, slots: Sequence[int], reports: list[Labelled], rounds: int) -> dict[str, list[Run]]:
    """All designs in turns; the order turns round every other time, so that no design is always the first."""
    designs = [*(design_name(count) for count in slots), *NAIVE_POOLS]
    found: dict[str, list[Run]] = {design: [] for design in designs}
    for number in range(rounds):
        for design in designs if number % 2 == 0 else reversed(designs):
            if design in NAIVE_POOLS:
                run = run_naive(bench, design, reports)
            else:
                run = run_ours(bench, slots[designs.index(design)], reports)
            found[design].append(run)
            print(f"round {number + 1}: {design}: {run.rate:.1f} jobs/s", file=sys.stderr, flush=True)
    return found


def body_of(found: dict[str, list[Run]], reports: list[Labelled]) -> str:
    """The table."""
    solo, threads = ([run.rate for run in found[name]] for name in NAIVE_POOLS)
    reference = found[next(iter(NAIVE_POOLS))][0].answers
    first = next(iter(found.values()))[0].answers
    rows = []
    for design, runs in found.items():
        rates = [run.rate for run in runs]
        answers = runs[-1].answers
        rows.append(
            [
                design,
                spread(rates),
                f"{ratio(rates, solo):.2f}",
                f"{ratio(rates, threads):.2f}",
                f"{median(run.mean_batch for run in runs):.1f}",
                str(sum(run.failed for run in runs)),
                f"{100 * share_right(parsed(answers), reports):.1f} %",
                str(differing(answers, first)),
                str(differing(answers, reference)),
            ]
        )
    header = [
        "design", "jobs/s (least-most)", "x solo", "x threads", "mean batch", "failed", "right",
        "other than row 1", "than naive",
    ]  # fmt: skip
    return aligned(header, rows)


def main() -> int:
    """Measure in turns and print; exit status 1 if a job failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_path", description=__doc__)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine, reports = this_machine(), labelled_reports(arguments.jobs)
    threads = arguments.threads or free_cores()
    try:
        with own_redis(machine, threads) as (bench, machine):
            found = measure(bench, arguments.slots, reports, arguments.rounds)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = (
        f"Whole path, {TASK_NAME}: {arguments.jobs} jobs, {threads} threads a step, "
        f"{arguments.rounds} rounds in turns"
    )
    show(title, machine, body_of(found, reports))
    runs = {design: [asdict(run) for run in runs] for design, runs in found.items()}
    rates = {design: median(run.rate for run in runs) for design, runs in found.items()}
    write_json(arguments.json, "whole_path", machine, {"jobs_per_s": rates, "threads": threads, "runs": runs})
    return 1 if any(run.failed for runs in found.values() for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
