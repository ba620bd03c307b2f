"""The engine alone beside `llama-server`, `llama-batched-bench` and llama-cpp-python's server script.

    python -m benchmarks.peers --llama-server PATH --batched-bench PATH [--model starter|1.1B|GGUF]
        [--python-server SCRIPT --python INTERPRETER] [--at 1 4 16 32] [--jobs N] [--rounds N] [--json FILE]

Everybody gets the same raw prompts of 20 to 200 tokens and generates the same 8 to 96 tokens, greedily; N
jobs are under way at any time. Each round has jobs of its own, so that no cache answers from an earlier one.
`llama-batched-bench` has no requests: it runs N sequences of the mean lengths in lockstep, which is what a
loop that waits for its slowest job could reach at most.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from batchyard.errors import YardError
from benchmarks.agreement import agreement
from benchmarks.contenders import (
    LLAMA_SERVER,
    Field,
    Run,
    add_options,
    field_of,
    serving_of,
    take_turns,
)
from benchmarks.machine import this_machine
from benchmarks.mix import ANSWER_TOKENS, PROMPT_TOKENS, Counter, mixed, token_counter
from benchmarks.peer_servers import Lockstep, Serving, batched_bench
from benchmarks.shapes import ends_no_text, measured_model
from benchmarks.table import aligned, ratio, show, spread, write_json

N_CTX = 512
STARTER_JOBS, STARTER_ROUNDS = 1200, 3
FEWEST_JOBS, LARGE_ROUNDS = 6, 2
WARM_UP_SEED, WARM_UP_PROMPTS, WARM_UP_ANSWERS = 1_000, (20, 60), (4, 8)
LOCKSTEP = "llama-batched-bench"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Everybody at one number of jobs under way."""

    runs: list[Run]
    lockstep: list[Lockstep]


def jobs_a_run(model: str, at_once: int) -> int:
    """How many jobs a run has if nothing is said: of larger models two for each slot, as one takes seconds
    on two cores."""
    return STARTER_JOBS if model == "starter" else max(FEWEST_JOBS, 2 * at_once)


def meet(
    field: Field,
    serving: Serving,
    bench: Path | None,
    counter: Counter,
    jobs: int,
    rounds: int,
    *,
    exact: bool,
) -> Meeting:
    """Everybody with `serving.slots` jobs under way, `llama-batched-bench` once a round in its turn."""
    lockstep: list[Lockstep] = []

    def in_lockstep() -> None:
        if bench is not None:
            lengths = round(mean(PROMPT_TOKENS)), round(mean(ANSWER_TOKENS))
            lockstep.append(batched_bench(bench, serving, *lengths))

    warm_up = mixed(max(4, serving.slots), counter, WARM_UP_SEED, WARM_UP_PROMPTS, WARM_UP_ANSWERS)
    runs = take_turns(
        field, serving, lambda number: mixed(jobs, counter, seed=number), warm_up, rounds,
        exact=exact, interlude=in_lockstep,
    )  # fmt: skip
    return Meeting(runs, lockstep)


def sizes_of(meetings: Sequence[Meeting]) -> str:
    """The jobs of a run, one number if it is the same one for all."""
    return "/".join(dict.fromkeys(str(meeting.runs[0].jobs) for meeting in meetings))


def body_of(meetings: Sequence[Meeting]) -> str:
    """The table."""
    rows = []
    for meeting in meetings:
        at_once = meeting.runs[0].at_once
        theirs = [run.rate for run in meeting.runs if run.design == LLAMA_SERVER]
        for name in dict.fromkeys(run.design for run in meeting.runs):
            runs = [run for run in meeting.runs if run.design == name]
            rates = [run.rate for run in runs]
            tokens = [run.token_rate for run in runs]
            spent = spread([1e3 * run.processor_seconds / run.jobs for run in runs], 1)
            client = f"{1e3 * median(run.client_seconds / run.jobs for run in runs):.1f}"
            share = f"{ratio(rates, theirs):.2f}"
            rows.append([name, str(at_once), spread(rates, 2), spread(tokens, 0), share, spent, client])
        if meeting.lockstep:
            rates = [one.jobs_per_s for one in meeting.lockstep]
            tokens = [one.jobs_per_s * one.answer for one in meeting.lockstep]
            share = f"{ratio(rates, theirs):.2f}"
            rows.append([LOCKSTEP, str(at_once), spread(rates, 2), spread(tokens, 0), share, "-", "-"])
    header = [
        "design", "at once", "jobs/s (least-most)", "generated tokens/s", "x llama-server", "CPU ms a job",
        "client's",
    ]  # fmt: skip
    return aligned(header, rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add_options(parser)
    parser.add_argument("--batched-bench", type=Path, help="the program; left out, it does not take part")
    parser.add_argument("--model", default="starter", help="starter, 1.1B, 7B or a GGUF")
    parser.add_argument("--at", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--jobs", type=int, help="a run (default: 1,200 for the starter, else twice --at)")
    parser.add_argument("--rounds", type=int, help="(default: 3 for the starter, else 2)")
    parser.add_argument("--agree", type=int, default=100, help="reports to compare answers on (starter only)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    rounds = options.rounds or (STARTER_ROUNDS if options.model == "starter" else LARGE_ROUNDS)
    model, agreed = measured_model(options.model), None
    counter, field = token_counter(model), field_of(options)
    try:
        meetings = [
            meet(
                field, serving_of(options, model, at_once, N_CTX), options.batched_bench, counter,
                options.jobs or jobs_a_run(options.model, at_once), rounds,
                exact=ends_no_text(options.model),
            )
            for at_once in options.at
        ]  # fmt: skip
        if options.model == "starter" and options.agree and field.llama_server is not None:
            agreed = agreement(options, field.llama_server, max(options.at), options.agree)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    body = body_of(meetings)
    if agreed is not None:
        body += f"\n\n{agreed.sentence()}"
    title = (
        f"Engine alone, {model.name}: {options.threads} threads, {rounds} rounds of {sizes_of(meetings)} jobs"
    )
    show(title, machine, body)
    figures = {
        "threads": options.threads, "meetings": [asdict(one) for one in meetings],
        "agreement": None if agreed is None else asdict(agreed),
    }  # fmt: skip
    write_json(options.json, "peers", machine, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
