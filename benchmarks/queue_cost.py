"""What the queue costs: the whole path beside the bare engine, and beside plain Celery around `Llama()`.

    python -m benchmarks.queue_cost [--model starter|1.1B|GGUF] [--slots 16] [--jobs N] [--json FILE]

The same jobs, lengths, threads and OpenMP settings for all, on the CPU: raw prompts of 20 to 200 tokens, 8 to
96 tokens generated (larger models than the starter: 20 to 100 and 8 to 64), greedy. The bare engine is its
child process with the settings of the worker's engine, asked over its socket by this process; the whole path
adds client, Redis, router and the worker's Celery; the naive worker (`naive.py`) runs one prompt at a time.
Both of ours have a job under way in every slot. They take turns, only one is up at a time, and starting and
warming up are not counted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import redis
import yaml

from batchyard import Client
from batchyard.errors import YardError
from benchmarks.child import consumer
from benchmarks.engine_client import completions, engine_child
from benchmarks.machine import this_machine
from benchmarks.mix import ANSWER_TOKENS, PROMPT_TOKENS, Ask, Counter, check_lengths, mixed, token_counter
from benchmarks.naive import QUEUE, TASK, make_naive_app
from benchmarks.shapes import ends_no_text, measured_model
from benchmarks.table import aligned, ratio, show, spread, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.start import free_cores

MODEL = "measured"
TASK_NAME = "other"
N_CTX = 512
JOBS, NAIVE_JOBS, ROUNDS = {"starter": 600}, {"starter": 600}, {"starter": 3}
LARGE_JOBS, LARGE_NAIVE_JOBS, LARGE_ROUNDS = 32, 5, 2
LARGE_PROMPTS, LARGE_ANSWERS = (20, 100), (8, 64)
WARM_UP_PROMPTS, WARM_UP_ANSWERS = (20, 40), (2, 4)
WARM_UP_SEED = 1_000
RESULT_SECONDS = 600.0
ENGINE, PATH, NAIVE = "bare engine", "whole path", "Celery + Llama()"


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement."""

    design: str
    jobs: int
    seconds: float
    generated: int
    failed: int

    @property
    def token_rate(self) -> float:
        """Generated tokens per second: what is compared, since the naive worker may be given fewer jobs."""
        return self.generated / self.seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: the model's file, its tokenizer, how many jobs each design gets a round, and whether
    every answer must have the length that was asked for."""

    model: Path
    counter: Counter
    slots: int
    jobs: int
    naive_jobs: int
    exact: bool
    prompts: tuple[int, int] = PROMPT_TOKENS
    answers: tuple[int, int] = ANSWER_TOKENS

    def asks(self, seed: int) -> list[Ask]:
        """The jobs of a round."""
        return mixed(self.jobs, self.counter, seed, self.prompts, self.answers)

    def warm_up(self) -> list[Ask]:
        """Jobs before the measured ones."""
        return mixed(max(4, self.slots), self.counter, WARM_UP_SEED, WARM_UP_PROMPTS, WARM_UP_ANSWERS)


def write_configs(folder: Path, model: Path, slots: int) -> None:
    """A catalogue with the measured model alone, and a policy that sends everything to it."""
    entry = {
        "model_name": MODEL, "model_path": str(model.resolve()), "tasks": [TASK_NAME], "n_slots": slots,
        "n_ctx": N_CTX, "n_gpu_layers": 0,
    }  # fmt: skip
    policy: dict[str, Any] = {
        "version": "1", "rules": [], "classifier": None, "tasks": {TASK_NAME: [MODEL]},
        "default": {"task": TASK_NAME, "model": MODEL},
    }  # fmt: skip
    catalogue = {"model_list": [entry], "task_list": [{"task": TASK_NAME, "description": "Measured jobs."}]}
    for name, document in {"models.yaml": catalogue, "routing.yaml": policy}.items():
        (folder / name).write_text(yaml.safe_dump(document), encoding="utf-8")


def run_engine(bench: Bench, plan: Plan, asks: Sequence[Ask]) -> Run:
    """The engine alone, as many jobs in it as it has slots."""
    environ = {"GOMP_SPINCOUNT": str(bench.settings.omp_spin_count)}
    with engine_child(
        plan.model, slots=plan.slots, n_ctx=N_CTX, threads=bench.threads, environ=environ
    ) as engine:
        completions(engine, [ask.frame() for ask in plan.warm_up()], plan.slots)
        began = time.perf_counter()
        found = completions(engine, [ask.frame() for ask in asks], plan.slots)
        seconds = time.perf_counter() - began
    lengths = [found[ask.id]["usage"]["completion_tokens"] for ask in asks]
    return _run(ENGINE, plan, asks, seconds, lengths)


def _run(design: str, plan: Plan, asks: Sequence[Ask], seconds: float, lengths: Sequence[int | None]) -> Run:
    """A measurement from the tokens of each answer, None for a job that failed."""
    good = [(ask, length) for ask, length in zip(asks, lengths, strict=True) if length is not None]
    if plan.exact:
        check_lengths(design, [ask for ask, _ in good], [length for _, length in good])
    return Run(design, len(asks), seconds, sum(length for _, length in good), len(asks) - len(good))


def run_path(bench: Bench, plan: Plan, asks: Sequence[Ask]) -> Run:
    """From `submit` to the last result."""
    with our_yard(bench, MODEL, plan.slots) as client:
        _through(client, plan, plan.warm_up(), "warm-up")
        return _through(client, plan, asks, "measured")


def _through(client: Client, plan: Plan, asks: Sequence[Ask], batch: str) -> Run:
    began = time.perf_counter()
    client.submit_many((_job(ask, batch) for ask in asks), batch=batch)
    results = list(client.results(batch, timeout=RESULT_SECONDS))
    seconds = time.perf_counter() - began
    lengths = {
        result.job_id: result.usage.completion_tokens
        for result in results
        if result.ok and result.usage is not None
    }
    return _run(PATH, plan, asks, seconds, [lengths.get(f"{batch}-{ask.id}") for ask in asks])


def _job(ask: Ask, batch: str) -> dict[str, Any]:
    sampling = {"temperature": 0.0, "max_tokens": ask.answer_tokens}
    return {
        "id": f"{batch}-{ask.id}", "task": TASK_NAME, "prompt": ask.prompt, "raw": True, "sampling": sampling
    }  # fmt: skip


def run_naive(bench: Bench, plan: Plan, asks: Sequence[Ask]) -> Run:
    """The naive worker, on as many of the jobs as it is given."""
    command = [
        "benchmarks.naive", "--model", MODEL, "--pool", "solo", "--threads", str(bench.threads), "--raw",
    ]  # fmt: skip
    with (
        make_naive_app(bench.naive_url) as app,
        consumer(app, QUEUE, command, bench.environment(bench.naive_url), bench.folder / "naive.log"),
    ):
        for ask in plan.warm_up()[:2]:
            app.send_task(TASK, [ask.prompt, ask.answer_tokens]).get(timeout=RESULT_SECONDS)
        mine = asks[: plan.naive_jobs]
        began = time.perf_counter()
        handles = [app.send_task(TASK, [ask.prompt, ask.answer_tokens]) for ask in mine]
        answers = [handle.get(timeout=RESULT_SECONDS, propagate=False) for handle in handles]
        seconds = time.perf_counter() - began
        lengths = [
            None if handle.failed() else int(answer[1])
            for handle, answer in zip(handles, answers, strict=True)
        ]
    return _run(NAIVE, plan, mine, seconds, lengths)


def measure(bench: Bench, plan: Plan, rounds: int) -> list[Run]:
    """All designs in turns."""
    designs, runs = [run_engine, run_path, run_naive], []
    for number in range(rounds):
        asks = plan.asks(seed=number)
        for design in designs if number % 2 == 0 else reversed(designs):
            with redis.Redis.from_url(bench.url) as client:
                client.flushall()
            run = design(bench, plan, asks)
            runs.append(run)
            print(f"round {number + 1}: {run.design}: {run.token_rate:.0f} tokens/s", file=sys.stderr)
    return runs


def body_of(runs: Sequence[Run]) -> str:
    """The table."""
    rates = {
        design: [run.token_rate for run in runs if run.design == design] for design in (ENGINE, PATH, NAIVE)
    }
    rows = []
    for design, mine in rates.items():
        jobs = [run.jobs / run.seconds for run in runs if run.design == design]
        failed = sum(run.failed for run in runs if run.design == design)
        rows.append(
            [
                design, spread(jobs, 2), spread(mine, 0), f"{ratio(mine, rates[ENGINE]):.2f}",
                f"{ratio(mine, rates[NAIVE]):.2f}", str(failed),
            ]
        )  # fmt: skip
    header = ["design", "jobs/s (least-most)", "generated tokens/s", "x engine", "x naive", "failed"]
    return aligned(header, rows)


def main() -> int:
    """Measure and print; exit status 1 if a job failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_cost", description=__doc__)
    parser.add_argument("--model", default="starter", help="starter, 1.1B, 7B or a GGUF")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--jobs", type=int, help=f"a round (default: {JOBS}, else {LARGE_JOBS})")
    parser.add_argument(
        "--naive-jobs", type=int, help=f"of these for the naive worker (default: {NAIVE_JOBS}, else 5)"
    )
    parser.add_argument("--rounds", type=int, help=f"(default: {ROUNDS}, else 2)")
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine, model = this_machine(), measured_model(options.model)
    jobs = options.jobs or JOBS.get(options.model, LARGE_JOBS)
    naive_jobs = min(jobs, options.naive_jobs or NAIVE_JOBS.get(options.model, LARGE_NAIVE_JOBS))
    rounds = options.rounds or ROUNDS.get(options.model, LARGE_ROUNDS)
    exact = ends_no_text(options.model)
    lengths = (PROMPT_TOKENS, ANSWER_TOKENS) if options.model == "starter" else (LARGE_PROMPTS, LARGE_ANSWERS)
    plan = Plan(model, token_counter(model), options.slots, jobs, naive_jobs, exact, *lengths)
    try:
        with own_redis(machine, options.threads or free_cores()) as (bench, machine):
            configs = bench.folder / "configs"
            configs.mkdir()
            write_configs(configs, model, options.slots)
            runs = measure(replace(bench, configs=configs), plan, rounds)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    sizes = f"{rounds} rounds of {jobs} jobs ({naive_jobs} naive), {options.slots} slots"
    title = f"What the queue costs, {model.name}: {sizes}, {bench.threads} threads a step"
    show(title, machine, body_of(runs))
    write_json(options.json, "queue_cost", machine, [asdict(run) for run in runs])
    return 1 if any(run.failed for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
