"""Where a step's time goes: llama.cpp's forward pass, and the engine's own Python around it.

    python -m benchmarks.step_profile [--model starter|1.1B|GGUF] [--at 1 4 16 32] [--jobs N] [--threads 2]
        [--json FILE]

The jobs of `peers` through an engine in this process, with this machine's profile, as many under way as there
are slots. The first table says what share of the time `llama_decode` takes, which everybody who runs the
same llama.cpp on the same rows pays, and what is left to win in the engine; the second splits the latter by
looking at the stack a thousand times a second. The third is the forward pass alone: rows of one sequence
behind an empty and a filled memory, with flash attention and without.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchyard.errors import YardError
from benchmarks.gpu_figures import Case
from benchmarks.machine import this_machine
from benchmarks.mix import Ask, mixed, token_counter
from benchmarks.stack_sampler import StackSampler
from benchmarks.table import aligned, show, spread, write_json
from workers.engine.errors import EngineError

if TYPE_CHECKING:
    from benchmarks.steps import Bench
    from workers.engine.engine import Engine

N_CTX = 512
STARTER_JOBS = 300
WARM_UP_SEED = 1_000
LIBGOMP_SPIN = "300000"
ROWS = (1, 16, 32, 48, 63, 64, 128)
PASTS = (0, 300)
PARTS = {
    "read_rows": "log sum and maximum of each row",
    "_sample": "drawing, ends of texts",
    "_note": "learning from the step, counters",
    "advance": "what is in memory now",
    "_admit": "who gets a slot, whose beginning it shares",
    "_demand": "who needs which rows",
    "bound": "which rows fit the targets",
    "_plan": "the plan",
    "_affordable": "room in memory",
    "_expire": "deadlines",
}
"""Functions below `Engine.step`, by what they do. A stack counts for the first of them, from the inside."""
FORWARD = "decode"
ForwardTimes = dict[tuple[int, bool], dict[int, list[float]]]
"""Milliseconds by rows, by tokens in memory and whether flash attention is on."""


@dataclass(frozen=True, slots=True)
class Profile:
    """`jobs` with `slots` under way: seconds in all and in the forward pass, steps and rows; looks at the
    stack outside of the forward pass, by part."""

    slots: int
    jobs: int
    seconds: float
    forward_s: float
    steps: int
    rows: int
    looks: dict[str, int]

    def a_step(self, seconds: float) -> float:
        """Microseconds a step."""
        return 1e6 * seconds / self.steps


def run_all(engine: "Engine", asks: Sequence[Ask], slots: int) -> None:
    """Every job to its end, `slots` of them in the engine at any time. Raises EngineError where one fails."""
    sent = done = 0
    while done < len(asks):
        while sent < len(asks) and sent - done < slots:
            engine.submit(asks[sent].frame())
            sent += 1
        engine.step()
        for event in engine.events():
            if event["op"] == "failed":
                raise EngineError(event["error"]["code"], event["error"]["message"])
            done += event["op"] == "done"


def part_of(stack: tuple[str, ...]) -> str | None:
    """The part of the engine that a stack below `step` belongs to; None for the forward pass."""
    if FORWARD in stack:
        return None
    return next((name for name in reversed(stack) if name in PARTS), "other")


def profiled(engine: "Engine", asks: Sequence[Ask], slots: int) -> Profile:
    """The jobs once by the clock, and once more with looks at the stack."""
    before, began = engine.stats(), time.perf_counter()
    run_all(engine, asks, slots)
    seconds, after = time.perf_counter() - began, engine.stats()
    sampler = StackSampler("step")
    with sampler.running():
        run_all(engine, asks, slots)
    looks: Counter[str] = Counter()
    for stack, count in sampler.seen.items():
        part = part_of(stack) if stack else "between steps"
        if part is not None:
            looks[part] += count
    return Profile(
        slots, len(asks), seconds, after["busy_s"] - before["busy_s"], after["steps"] - before["steps"],
        after["rows"] - before["rows"], dict(looks),
    )  # fmt: skip


def forward_times(bench: "Bench", rows: Sequence[int], past: int, *, flash: bool) -> dict[int, list[float]]:
    """Milliseconds of a step with this many rows of one sequence that has `past` tokens in memory."""
    times: dict[int, list[float]] = {}
    most = past + max(rows)
    with bench.stepper(Case(flash_attn=flash), 1, most, most) as stepper:
        if past:
            stepper.prompt(0, bench.tokens(past), 0)
        for count in rows:
            taken = []
            for _ in range(bench.repeats + 1):
                stepper.context.remove(0, past)
                taken.append(stepper.prompt(0, bench.tokens(count), past))
            times[count] = taken[1:]  # the first builds the graph of this size
    return times


def shares_of(profiles: Sequence[Profile]) -> str:
    """The first table."""
    rows = [
        [
            str(one.slots), f"{one.jobs / one.seconds:.2f}", f"{one.rows / one.steps:.1f}",
            f"{one.a_step(one.seconds):,.0f}", f"{one.a_step(one.forward_s):,.0f}",
            f"{one.a_step(one.seconds - one.forward_s):,.0f}", f"{100 * one.forward_s / one.seconds:.1f} %",
            f"{one.seconds / one.forward_s:.2f}",
        ]
        for one in profiles
    ]  # fmt: skip
    header = [
        "at once", "jobs/s", "rows a step", "us a step", "forward pass", "engine", "forward's share",
        "x if the engine took no time",
    ]  # fmt: skip
    return aligned(header, rows)


def parts_of(profiles: Sequence[Profile]) -> str:
    """The second table: microseconds a step of the engine's parts, from the share of looks."""
    names = [name for name in [*PARTS, "between steps", "other"] if any(name in p.looks for p in profiles)]
    rows = []
    for name in names:
        cells = []
        for one in profiles:
            share = one.looks.get(name, 0) / max(1, sum(one.looks.values()))
            cells.append(f"{one.a_step(share * (one.seconds - one.forward_s)):.0f}")
        rows.append([f"{name}: {PARTS[name]}" if name in PARTS else name, *cells])
    return aligned(["us a step at", *(str(one.slots) for one in profiles)], rows)


def forward_of(times: ForwardTimes, rows: Sequence[int]) -> str:
    """The third table."""
    body = [
        [
            f"{past} in memory, flash attention {'on' if flash else 'off'}",
            *(spread(found[n], 2) for n in rows),
        ]
        for (past, flash), found in times.items()
    ]
    return aligned(["ms by rows of one sequence", *map(str, rows)], body)


def measure(options: argparse.Namespace) -> tuple[list[Profile], ForwardTimes]:
    """Everything. Importing what it needs loads llama.cpp, which reads the environment once."""
    from benchmarks.engine_client import profile_settings
    from benchmarks.shapes import measured_model
    from benchmarks.steps import Bench
    from workers.engine.engine import Engine
    from workers.engine.loader import load
    from workers.engine.model import EngineModel

    model = measured_model(options.model)
    counter, profiles = token_counter(model), []
    for slots in options.at:
        settings = profile_settings(0) | {
            "model_name": model.stem, "model_path": str(model), "n_ctx": N_CTX, "n_slots": slots,
            "n_threads": options.threads, "n_gpu_layers": 0,
        }  # fmt: skip
        runtime = load(EngineModel.parse(settings))
        engine = Engine(runtime)
        run_all(engine, mixed(max(4, slots), counter, WARM_UP_SEED, (20, 60), (4, 8)), slots)
        jobs = options.jobs or (STARTER_JOBS if options.model == "starter" else 2 * slots)
        profiles.append(profiled(engine, mixed(jobs, counter, seed=slots), slots))
        runtime.close()
    bench = Bench(model, None, options.threads, options.repeats)
    return profiles, {
        (past, flash): forward_times(bench, ROWS, past, flash=flash)
        for past in PASTS
        for flash in (True, False)
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_profile", description=__doc__)
    parser.add_argument("--model", default="starter", help="starter, 1.1B, 7B or a GGUF")
    parser.add_argument("--at", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--jobs", type=int, help="(default: 300 for the starter, else twice --at)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="of each forward pass")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", LIBGOMP_SPIN)
    machine = this_machine()
    try:
        profiles, times = measure(options)
    except (YardError, EngineError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    body = "\n\n".join([shares_of(profiles), parts_of(profiles), forward_of(times, ROWS)])
    show(f"A step's time, {options.model}, {options.threads} threads", machine, body)
    figures = {
        "profiles": [asdict(one) for one in profiles],
        "forward_ms": [
            {"past": past, "flash_attn": flash, "rows": found} for (past, flash), found in times.items()
        ],
    }
    write_json(options.json, "step_profile", machine, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
