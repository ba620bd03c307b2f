"""One instruction for many jobs: 300 shared tokens, 30 own ones, a verdict of 4 to 16, beside `llama-server`.

    python -m benchmarks.shared_prefix --llama-server PATH [--model starter|1.1B|GGUF] [--at 1 16 32]
        [--json FILE]

`llama-server` runs with its own prompt cache: each request says `cache_prompt: true`, and by default it goes
to the slot whose last prompt is most like it. Each round has an instruction of its own, so that the first
jobs of a round compute it. The hit rate is the share of prompt tokens that were not computed again.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from batchyard.errors import YardError
from benchmarks.contenders import LLAMA_SERVER, Run, add_options, field_of, serving_of, take_turns
from benchmarks.machine import this_machine
from benchmarks.mix import sharing, token_counter
from benchmarks.shapes import ends_no_text, measured_model
from benchmarks.table import aligned, ratio, show, spread, write_json

N_CTX = 512
JOBS = {"starter": 800, "1.1B": 48}
WARM_UP_SEED = 1_000


def body_of(runs: Sequence[Run]) -> str:
    """The table."""
    rows = []
    for at_once in dict.fromkeys(run.at_once for run in runs):
        here = [run for run in runs if run.at_once == at_once]
        theirs = [run.rate for run in here if run.design == LLAMA_SERVER]
        for name in dict.fromkeys(run.design for run in here):
            mine = [run for run in here if run.design == name]
            rates = [run.rate for run in mine]
            hits = f"{100 * median(run.hit_rate for run in mine):.1f} %"
            rows.append([name, str(at_once), spread(rates, 2), f"{ratio(rates, theirs):.2f}", hits])
    return aligned(["design", "at once", "jobs/s (least-most)", "x llama-server", "hit rate"], rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shared_prefix", description=__doc__)
    add_options(parser)
    parser.add_argument("--model", default="starter", help="starter, 1.1B, 7B or a GGUF")
    parser.add_argument("--at", type=int, nargs="+", default=[1, 16, 32])
    parser.add_argument("--jobs", type=int, help=f"a run (default: {JOBS}, else 48)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine, jobs = this_machine(), options.jobs or JOBS.get(options.model, 48)
    model = measured_model(options.model)
    counter, field = token_counter(model), field_of(options)
    runs: list[Run] = []
    try:
        for at_once in options.at:
            serving = serving_of(options, model, at_once, N_CTX)
            # another instruction than any that is measured
            warm_up = sharing(max(4, at_once), counter, WARM_UP_SEED)
            runs += take_turns(
                field, serving, lambda number: sharing(jobs, counter, seed=number), warm_up, options.rounds,
                exact=ends_no_text(options.model),
            )  # fmt: skip
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    title = (
        f"Shared instruction, {model.name}: 300 + 30 tokens, verdicts of 4 to 16; {jobs} jobs a run, "
        f"{options.threads} threads, {options.rounds} rounds"
    )
    show(title, machine, body_of(runs))
    write_json(options.json, "shared_prefix", machine, [asdict(run) for run in runs])
    return 0


if __name__ == "__main__":
    sys.exit(main())
