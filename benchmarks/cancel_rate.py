"""Cancelling a pile: how long until nothing of it runs or waits any more.

    python -m benchmarks.cancel_rate [--jobs 100000] [--rounds 3] [--json FILE]

The jobs go through `Client.submit_many` into a Redis of its own, append-only file on, and
`Client.cancel_batch` follows at once. In `queued` nobody consumes them; in `running` a router and a worker
with the shipped model `chat` are at work, so that the jobs are spread over the router's queue, the model's
queue and the engine when they are cancelled. Measured from the call: until it returns (each job has its final
state then), until both queues are empty and no consumer holds a message, and until one more job, submitted
when the call has returned, is answered.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from batchyard import Client, names, store
from batchyard.names import UNACKED_KEY
from batchyard.states import State
from benchmarks.machine import this_machine
from benchmarks.table import aligned, show, spread, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.start import free_cores

MODEL = "chat"
SLOTS = 16
BATCH = "pile"
QUEUED, RUNNING = "queued", "running"
LOOK_S = 0.01
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Cancellation:
    """One measurement. Of `jobs`, `answered` had their result before; seconds count from the call, None where
    nobody was there to do it."""

    situation: str
    jobs: int
    cancelled: int
    answered: int
    returned: float
    empty: float | None = None
    next_answer: float | None = None


def pile(count: int) -> Iterator[dict[str, Any]]:
    """The jobs."""
    for number in range(count):
        yield {"task": "other", "model": MODEL, "prompt": f"Report {number}: the line stood for {number} s."}


def cancel_queued(client: Client, count: int) -> Cancellation:
    """Cancel a pile that nobody has taken up."""
    client.submit_many(pile(count), batch=BATCH)
    began = time.perf_counter()
    cancelled = client.cancel_batch(BATCH)
    return _checked(client, Cancellation(QUEUED, count, cancelled, 0, time.perf_counter() - began))


def cancel_running(bench: Bench, count: int) -> Cancellation:
    """Cancel a pile that a router and a worker are at."""
    with our_yard(bench, MODEL, SLOTS) as client, redis.Redis.from_url(bench.url) as connection:
        client.submit_many(pile(count), batch=BATCH)
        began = time.perf_counter()
        cancelled = client.cancel_batch(BATCH)
        returned = time.perf_counter() - began
        one_more = client.submit(task="other", model=MODEL, prompt="Is anybody there?")
        empty, answer = _await_quiet(connection, client, one_more, began)
        answered = client.batch(BATCH).success
        return _checked(client, Cancellation(RUNNING, count, cancelled, answered, returned, empty, answer))


def _await_quiet(connection: redis.Redis, client: Client, job_id: str, began: float) -> tuple[float, float]:
    """Seconds until nothing waits and nobody holds anything, and until the job has its result."""
    queues = [names.ROUTE_QUEUE, names.model_queue(MODEL)]
    answer: float | None = None
    while time.perf_counter() - began < PATIENCE_S:
        if answer is None and client.status(job_id) is State.SUCCESS:
            answer = time.perf_counter() - began
        waiting = sum(store.run(connection, store.queue_lengths(queues)).values())
        if answer is not None and waiting == 0 and connection.hlen(UNACKED_KEY) == 0:
            return time.perf_counter() - began, answer
        time.sleep(LOOK_S)
    raise SystemExit(f"after {PATIENCE_S:.0f} s the queues are not empty, or the next job has no answer")


def _checked(client: Client, found: Cancellation) -> Cancellation:
    status = client.batch(BATCH)
    if (status.done, status.revoked) != (found.jobs, found.cancelled):
        raise SystemExit(f"{found.cancelled} of {found.jobs} were cancelled, and the counters say {status}")
    return found


def measure(bench: Bench, count: int, rounds: int) -> list[Cancellation]:
    """Both situations in turns, each in an empty Redis."""
    found = []
    for _ in range(rounds):
        for situation in (QUEUED, RUNNING):
            with redis.Redis.from_url(bench.url) as connection:
                connection.flushall()
            if situation == RUNNING:
                found.append(cancel_running(bench, count))
                continue
            with Client(bench.settings) as client:
                found.append(cancel_queued(client, count))
    return found


def body_of(found: list[Cancellation]) -> str:
    """The table."""
    rows = []
    for situation in (QUEUED, RUNNING):
        mine = [one for one in found if one.situation == situation]
        if not mine:
            continue
        rows.append(
            [
                situation,
                f"{mine[0].jobs:,}",
                spread([one.answered for one in mine], 0),
                spread([one.returned for one in mine], 2),
                spread([one.next_answer for one in mine if one.next_answer is not None], 2),
                spread([one.empty for one in mine if one.empty is not None], 2),
            ]
        )
    header = ["situation", "jobs", "answered before", "call s (least-most)", "next answer s", "all quiet s"]
    return aligned(header, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel_rate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with own_redis(this_machine(), free_cores()) as (bench, machine):
        found = measure(bench, options.jobs, options.rounds)
    show(f"Cancelling a pile, {options.rounds} rounds in turns", machine, body_of(found))
    write_json(options.json, "cancel_rate", machine, [asdict(one) for one in found])


if __name__ == "__main__":
    main()
