"""How many verdict jobs a second P40 cards could do within 350 ms, simulated: no P40 was at hand.

    python -m benchmarks simulation

The engine and its scheduler are the real ones; only the forward pass is replaced by a clock that follows
public step times of a P40 (`P40`). Jobs arrive at random, whether or not others are done (Poisson, open
loop), and go to the card with the fewest jobs. A verdict takes as many steps as the starter model's do,
measured at the start with and without jump-forward; a 7B model's own tokens would need others. Left out:
queue and router, and the engine's own time between two steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.arrivals import poisson
from benchmarks.machine import this_machine
from benchmarks.percentiles import percentile
from benchmarks.simulated import Clock, StepTable, simulated_runtime
from benchmarks.table import aligned, show, write_json
from benchmarks.verdict_steps import MODEL, Verdicts, measure
from workers.engine.engine import Engine
from workers.engine.loader import Runtime, load
from workers.engine.model import EngineModel

P40 = StepTable(
    rows=(1, 16, 32, 64, 128, 256, 512),
    seconds=(0.021, 0.037, 0.059, 0.089, 0.154, 0.281, 0.546),
    per_cell=0.6e-6,
)
"""An 8B model in Q4. From 16 rows on public reports (docs/benchmarks.md); one row from the 56.8 tokens/s of
a 6.74B model in Q4_0 (ggml-org/llama.cpp#4766), times 8.03/6.74. A cell of 8 KV heads in 32 layers is 128
KiB in F16, read at about 60 % of 347 GB/s."""
SIZE_7B = 7.25 / 8.03
"""Weights of Mistral 7B over those of the model measured."""
TARGET_S = 0.35
GOAL = 98.0
"""Jobs a second to place."""
TWO_ENUMS = (3,)
"""Steps of an answer of two enums, as verdict and defect: one for each, and one where two names begin
alike."""
N_CTX = 1024
LEAST_RATE = 0.2
WARM_UP_JOBS = 8


@dataclass(frozen=True)
class Jobs:
    """What every job is: prompt tokens that all share, its own ones, and its answer: how many steps draw a
    token of it (the jobs take turns with these), and how many forced tokens go with each."""

    shared: int
    unique: int
    steps: tuple[int, ...]
    forced: float = 0.0

    @property
    def rows(self) -> float:
        """Rows to compute a job, the shared beginning left out."""
        return self.unique - 1 + float(np.mean(self.steps)) * (1.0 + self.forced)


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    name: str
    jobs: Jobs
    slots: int = 16
    cards: int = 1
    target_s: float = TARGET_S
    prefix_cache: bool = True


@dataclass(frozen=True)
class Found:
    """The latencies in seconds at a rate in jobs/s, and of jobs that come alone. A rate of 0: hardly ever two
    jobs may meet, or not even those alone are within the target."""

    rate: float
    p50: float
    p99: float
    alone: float


class Card:
    """One simulated card with an engine of its own, warm."""

    def __init__(self, real: Runtime, setting: Setting, table: StepTable) -> None:
        self.clock = Clock()
        self._jobs, self._target_s = setting.jobs, setting.target_s
        model = EngineModel(
            "simulated",
            "none",
            n_ctx=N_CTX,
            n_slots=setting.slots,
            n_batch=128,
            n_ubatch=128,
            prefix_cache=setting.prefix_cache,
        )
        runtime = simulated_runtime(real, model, self.clock, table, rows_per_token=1.0 + setting.jobs.forced)
        self.engine = Engine(runtime, clock=self.clock, wall=self.clock)
        self.inside: dict[str, float] = {}
        """When each of its jobs arrived."""
        self.latencies: list[float] = []
        self.late = 0
        """How many of these are beyond the target."""
        for number in range(WARM_UP_JOBS):
            self.submit(number, 0.0)
            self.finish()
        self.clock.now, self.late = 0.0, 0
        self.latencies.clear()

    def submit(self, number: int, arrived: float) -> None:
        """A job, which joins at the next step."""
        jobs = self._jobs
        self.inside[str(number)] = arrived
        self.engine.submit(
            {
                "id": str(number),
                "prompt": f"{jobs.shared} {jobs.unique} {number}",
                "sampling": {"temperature": 0.0, "max_tokens": jobs.steps[number % len(jobs.steps)]},
                "priority": 0,
            }
        )

    def run_until(self, until: float) -> None:
        """Step until the clock has passed `until`; an idle one moves on to it."""
        while self.clock.now < until and not self.engine.idle:
            self._step()
        self.clock.now = max(self.clock.now, until)

    def finish(self) -> None:
        """Step until nothing is left."""
        while not self.engine.idle:
            self._step()

    def _step(self) -> None:
        self.engine.step()
        for event in self.engine.events():
            if event["op"] == "failed":
                raise RuntimeError(event["error"]["message"])
            if event["op"] == "done":
                self.latencies.append(self.clock.now - self.inside.pop(event["id"]))
                self.late += self.latencies[-1] > self._target_s


def simulate(
    real: Runtime, setting: Setting, table: StepTable, rate: float, count: int, *, most_late: float = 1.0
) -> list[float]:
    """The latency in seconds of each of about `count` jobs that come at `rate` a second. Ends early, with
    those so far, when more than this share of them was later than the target."""
    cards = [Card(real, setting, table) for _ in range(setting.cards)]
    for number, moment in enumerate(poisson(rate, count / rate, seed=1)):
        for card in cards:
            card.run_until(moment)
        least = min(cards, key=lambda card: len(card.inside))
        least.submit(WARM_UP_JOBS + number, moment)
        if sum(card.late for card in cards) > most_late * count:
            break
    else:
        for card in cards:
            card.finish()
    return [latency for card in cards for latency in card.latencies]


def find_capacity(real: Runtime, setting: Setting, table: StepTable, count: int) -> Found:
    """The highest rate whose P99 is within the target, to 4 %."""
    alone = percentile(simulate(real, replace(setting, cards=1), table, 0.001, 20), 0.99)
    best = Found(0.0, alone, alone, alone)
    if alone > setting.target_s:
        return best
    most = setting.cards * table.rows[-1] / table.seconds[-1] / setting.jobs.rows
    low, high = 0.0, 1.1 * most
    while high > LEAST_RATE and high - low > 0.04 * high:
        rate = (low + high) / 2
        latencies = simulate(real, setting, table, rate, count, most_late=0.01)
        if percentile(latencies, 0.99) <= setting.target_s:
            low = rate
            best = Found(rate, percentile(latencies, 0.5), percentile(latencies, 0.99), alone)
        else:
            high = rate
    return best


def at_goal(real: Runtime, setting: Setting, table: StepTable, count: int) -> Found:
    """The latencies when the goal's jobs/s arrive."""
    latencies = simulate(real, setting, table, GOAL, count)
    return Found(GOAL, percentile(latencies, 0.5), percentile(latencies, 0.99), 0.0)


def settings_of(jumping: Verdicts, plain: Verdicts) -> list[Setting]:
    """What is compared: forms of the answer, prompts, slots, cards."""
    per_step = jumping.tokens / float(np.mean(jumping.steps)) - 1.0
    choice = Jobs(300, 30, (1,))
    verdict = Jobs(300, 30, jumping.steps, per_step)
    return [
        Setting("choice of a label", choice),
        Setting("choice of a label", choice, cards=8),
        Setting("two enums", Jobs(300, 30, TWO_ENUMS, per_step)),
        Setting("two enums", Jobs(300, 30, TWO_ENUMS, per_step), cards=8),
        Setting("verdict", verdict),
        Setting("verdict", verdict, target_s=0.7),
        Setting("verdict", verdict, target_s=0.7, cards=8),
        Setting("verdict, every token drawn", Jobs(300, 30, plain.steps), target_s=0.7),
        *(Setting("choice", choice, slots=slots) for slots in (2, 4, 32)),
        *(Setting("verdict", verdict, slots=slots, target_s=0.7) for slots in (2, 4, 32)),
        *(Setting("choice", Jobs(0, size, (1,))) for size in (30, 100, 300, 600)),
        Setting("choice, prefix cache off", choice, prefix_cache=False),
    ]


def capacity_table(found: Sequence[tuple[Setting, Found]]) -> str:
    """Capacity within the target for each setting."""
    rows = [
        [
            setting.name,
            f"{setting.jobs.shared}+{setting.jobs.unique}",
            f"{np.mean(setting.jobs.steps):.1f}",
            f"{setting.slots}",
            f"{setting.cards}",
            f"{1000 * setting.target_s:.0f}",
            f"{1000 * one.alone:,.0f}",
            f"{one.rate:.1f}" if one.rate else "none",
            f"{1000 * one.p50:,.0f} / {1000 * one.p99:,.0f}" if one.rate else "-",
            f"{GOAL * setting.cards / one.rate:.1f}" if one.rate else "-",
        ]
        for setting, one in found
    ]
    header = [
        "job", "prompt", "steps", "slots", "cards", "target ms", "alone ms", "jobs/s", "P50 / P99 ms",
        f"cards for {GOAL:.0f}/s",
    ]  # fmt: skip
    return aligned(header, rows)


def goal_table(found: Sequence[tuple[Setting, Found]]) -> str:
    """Latencies of so many cards when the goal's jobs/s arrive."""
    rows = [
        [setting.name, f"{setting.cards}", f"{1000 * one.p50:,.0f}", f"{1000 * one.p99:,.0f}"]
        for setting, one in found
    ]
    return aligned([f"{GOAL:.0f} jobs/s", "cards", "P50 ms", "P99 ms"], rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000, help="simulated jobs at each rate")
    parser.add_argument("--reports", type=int, default=60, help="verdicts whose steps are counted")
    parser.add_argument(
        "--scale", type=float, default=SIZE_7B, help="model size over the 8B of the step times"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    table = P40.scaled(options.scale)
    jumping, plain = (measure(options.reports, jump_forward=jumps) for jumps in (True, False))
    real = load(EngineModel("words", str(MODEL), n_ctx=256, n_slots=1, n_threads=1))
    settings = settings_of(jumping, plain)
    found = [(setting, find_capacity(real, setting, table, options.jobs)) for setting in settings]
    goals = [
        replace(setting, cards=cards)
        for setting, numbers in (
            (settings[0], (4, 5, 8)),
            (settings[2], (6, 8, 12)),
            (settings[4], (8, 16, 24)),
        )
        for cards in numbers
    ]
    met = [(setting, at_goal(real, setting, table, options.jobs)) for setting in goals]
    real.close()
    title = "Simulated P40 cards, a 7B model in Q4: jobs/s whose P99 is within the target"
    show(title, machine, f"{capacity_table(found)}\n\n{goal_table(met)}")
    figures = [asdict(setting) | asdict(one) for setting, one in (*found, *met)]
    write_json(options.json, "simulation", machine, figures)


if __name__ == "__main__":
    main()
