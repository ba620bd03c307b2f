"""Nothing grows without bound: a real yard under steady mixed traffic, everything countable sampled.

    python -m benchmarks.growth [--minutes 60] [--rate 20] [--json FILE]

Redis with its append-only file, a router, a worker of the starter model, and a worker with an engine of no
cost whose jobs often need another attempt. Results expire after two minutes, so that as many keys leave as
come. The traffic (`steady.py`) is sampled every ten seconds (`footprint.py`): Redis's keys by kind and what
stands in them, its memory, its connections; of each process the resident memory, threads and descriptors. The
first half is warm-up; a line is put through the second (`trend.py`). Exit status 1 if anything grows by more
than noise (5 % an hour of what there is, or the least that is named for its kind), if a job ended as none of
its kind may, or not at all. A machine that does not keep up with the rate shows as growth, and as jobs that
have not ended: give it half of what it can do.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from os import getpid
from pathlib import Path

import redis

from batchyard import Client
from batchyard.app import make_app
from batchyard.errors import YardError
from batchyard.names import ROUTE_QUEUE, model_queue
from benchmarks.child import consumer
from benchmarks.footprint import engine_of, process_footprint, redis_footprint
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.steady import LOST_AFTER_S, Tally, Traffic
from benchmarks.table import aligned, show, write_json
from benchmarks.trend import BLOCKS, Trend, trend
from benchmarks.two_engines import NO_COST, STARTER, write_configs
from benchmarks.yard import Bench, own_redis
from workers.start import free_cores

TURNS_A_SECOND = 2
TEXTS = 500
SECONDS_AFTER = 5.0

Samples = list[tuple[float, Mapping[str, float]]]
"""Readings by name, each with its time in seconds since the start."""


def observe(bench: Bench, options: argparse.Namespace) -> tuple[Samples, Tally]:
    """Bring the yard up, keep it under traffic and sample it.

    Raises:
        YardError: a role did not come up, or Redis did not answer.
    """
    settings = bench.settings.model_copy(update={"result_expires": options.result_expires})
    environment = bench.environment(bench.url) | {"BATCHYARD_RESULT_EXPIRES": str(options.result_expires)}
    processes = {"client": getpid()}
    with ExitStack() as stack:
        raw = stack.enter_context(redis.Redis.from_url(bench.url))
        app = stack.enter_context(make_app(settings))
        processes["redis"] = int(raw.info("server")["process_id"])
        roles = {"router": (ROUTE_QUEUE, ["router", "worker"])}
        programs = {STARTER: ["workers"], NO_COST: ["benchmarks.altered", "guaranteed", "workers"]}
        for model, program in programs.items():
            command = [
                *program, "--model", model, "--gpu", "none", "--threads", str(bench.threads),
                "--log-level", "WARNING",
            ]  # fmt: skip
            roles[f"worker {model}"] = (model_queue(model), command)
        for name, (queue, command) in roles.items():
            log = bench.folder / f"{name.replace(' ', '-')}.log"
            processes[name] = stack.enter_context(consumer(app, queue, command, environment, log))
        for model in (STARTER, NO_COST):
            processes[f"engine {model}"] = engine_of(processes[f"worker {model}"])
        client = stack.enter_context(Client(settings))
        texts = [report.text for report in labelled_reports(TEXTS)]
        traffic = Traffic(client, raw, settings, texts, options.seed)
        samples = sampled(traffic, raw, processes, options)
        drain(traffic)
    return samples, traffic.tally


def sampled(
    traffic: Traffic, raw: redis.Redis, processes: Mapping[str, int], options: argparse.Namespace
) -> Samples:
    """The samples of so many minutes of traffic, taken while it goes on."""
    samples: Samples = []
    began = time.monotonic()
    turn = 0
    while (now := time.monotonic() - began) < 60 * options.minutes:
        if now >= options.every * len(samples):
            samples.append((now, redis_footprint(raw) | process_footprint(processes)))
        # the count follows the clock, so that a turn that took long is made up for
        due = int(options.rate * (turn + 1) / TURNS_A_SECOND) - int(options.rate * turn / TURNS_A_SECOND)
        traffic.turn(due)
        turn += 1
        time.sleep(max(0.0, began + turn / TURNS_A_SECOND - time.monotonic()))
    return samples


def drain(traffic: Traffic) -> None:
    """Wait until every job has been looked at."""
    limit = time.monotonic() + LOST_AFTER_S + SECONDS_AFTER
    while traffic.under_way and time.monotonic() < limit:
        time.sleep(0.5)
        traffic.look(0.0)


def trends(samples: Samples) -> list[Trend]:
    """The trend of everything that was read; what was not there at a time was none."""
    times = [at for at, _ in samples]
    every = sorted({name for _, readings in samples for name in readings})
    return [trend(name, times, [readings.get(name, 0.0) for _, readings in samples]) for name in every]


def body_of(found: Sequence[Trend], samples: Samples, tally: Tally) -> str:
    """What moved, what became of the jobs, and the verdict."""
    half, last = samples[len(samples) // 2][1], samples[-1][1]
    moving = [one for one in found if one.per_hour or half.get(one.name, 0.0) != last.get(one.name, 0.0)]
    rows = [
        [
            one.name,
            *(f"{value:,.0f}" for value in (half.get(one.name, 0.0), last.get(one.name, 0.0), one.per_hour)),
            f"{one.allowed:,.0f}", f"{one.certain:.1f}", "GROWS" if one.grows else "",
        ]
        for one in moving
    ]  # fmt: skip
    header = ["reading", "half-way", "at the end", "per hour", "allowed", "certain", ""]
    kinds = sorted({kind for kind, _ in tally.outcomes})
    outcomes = [
        [kind, ", ".join(f"{n} {what}" for (of, what), n in sorted(tally.outcomes.items()) if of == kind)]
        for kind in kinds
    ]
    growing = [one.name for one in found if one.grows]
    steady = sorted(one.name for one in found if one not in moving)
    return "\n".join(
        [
            aligned(header, rows),
            "",
            f"not moving: {', '.join(steady) or 'nothing'}",
            "",
            aligned(["jobs", "outcomes"], outcomes),
            "",
            f"{len(growing)} of {len(found)} readings grow, {len(tally.unexpected)} jobs ended unexpectedly, "
            f"{len(tally.lost)} not at all",
            *tally.unexpected[:10],
            *tally.lost[:10],
        ]
    )


def main() -> int:
    """Run and print the verdict; exit status 1 if something grows or a job did not end well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--result-expires", type=int, default=120, help="seconds that results are kept")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if 60 * options.minutes / options.every < 2 * BLOCKS:
        parser.error(f"at least {2 * BLOCKS} samples are needed: more minutes, or --every fewer seconds")
    machine = this_machine()
    try:
        with own_redis(machine, free_cores()) as (bench, machine):
            configs = write_configs(bench.folder, options.slots)
            bench = Bench(bench.url, bench.threads, bench.folder, configs)
            samples, tally = observe(bench, options)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    found = trends(samples)
    title = f"Growth: {options.minutes:g} minutes at {options.rate:g} jobs/s, {len(samples)} samples"
    show(title, machine, body_of(found, samples, tally))
    figures = {
        "samples": [{"seconds": at} | dict(readings) for at, readings in samples],
        "trends": [asdict(one) | {"grows": one.grows} for one in found],
        "outcomes": {f"{kind}: {what}": count for (kind, what), count in sorted(tally.outcomes.items())},
        "unexpected": tally.unexpected,
        "lost": tally.lost,
    }
    write_json(options.json, "growth", machine, figures)
    failed = tally.unexpected or tally.lost or any(one.grows for one in found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
