"""Redis's memory for a job: waiting for its route, waiting for its model, finished; by how many there are.

    python -m benchmarks.job_memory [--jobs 1000 10000 100000] [--json FILE]

Held-out inspection reports of one batch. Routed by a router, finished with the result that the starter's
worker gave to the first of them, under the other ids; then a real worker drops their messages, as it does
with those of any job that has ended. `used_memory` is read in between, without the buffers of the append-only
file, less what an empty Redis takes. What must be seen is that a job costs the same however many there are.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from batchyard import Client, names, store
from batchyard.app import make_app
from batchyard.errors import YardError, YardUnavailable
from batchyard.names import UNACKED_KEY
from batchyard.states import State
from benchmarks.child import consumer
from benchmarks.machine import this_machine
from benchmarks.reports import labelled_reports
from benchmarks.table import aligned, show, write_json
from benchmarks.yard import Bench, our_yard, own_redis
from workers.start import free_cores

MODEL = TASK = "defect_detect"
BATCH = "measured"
TEXTS = 500
PAGE = 500
KEYS_LOOKED_AT = 100
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes a job at each of its stages, with so many `jobs` in Redis; `document` is the mean size of what
    stands under a result key at the end, `claim` of its claim, both with their names."""

    jobs: int
    submitted: float
    routed: float
    finished: float
    document: float
    claim: float


def used_memory(raw: redis.Redis) -> int:
    """Bytes that Redis holds data with."""
    memory = raw.info("memory")
    return int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))


def pile(count: int) -> list[dict[str, Any]]:
    """The jobs, with ids as long as those that a client makes."""
    texts = [report.text for report in labelled_reports(TEXTS)]
    return [
        {"id": f"measured-{number:017d}", "task": TASK, "prompt": f"{number}: {texts[number % TEXTS]}"}
        for number in range(count)
    ]


def sample_result(bench: Bench) -> Any:
    """The result in the document of a job that a real worker did."""
    (job,) = pile(1)
    with our_yard(bench, MODEL, 1) as client, redis.Redis.from_url(bench.url) as raw:
        client.submit(job)
        client.result(job["id"], timeout=60).value()
        ((document,)) = store.run(raw, store.documents([job["id"]]))
    if document is None:
        raise YardUnavailable("the sample's result is gone")
    return document["result"]


def measure(bench: Bench, count: int, result: Any) -> Cost:
    """All stages with so many jobs.

    Raises:
        YardUnavailable: a role did not come up, or did not get through.
    """
    environment = bench.environment(bench.url)
    worker = ["workers", "--model", MODEL, "--gpu", "none", "--slots", "1", "--log-level", "WARNING"]
    with (
        redis.Redis.from_url(bench.url) as raw,
        make_app(bench.settings) as app,
        Client(bench.settings) as client,
    ):
        raw.flushall()
        client.batch(BATCH)  # its connection is there before
        empty = used_memory(raw)
        client.submit_many(pile(count), batch=BATCH)
        submitted = used_memory(raw)
        with consumer(app, names.ROUTE_QUEUE, ["router", "worker"], environment, bench.folder / "router.log"):
            _until_empty(raw, names.ROUTE_QUEUE)
        routed = used_memory(raw)
        finish_all(raw, client, result, bench.settings.result_expires)
        queue = names.model_queue(MODEL)
        with consumer(app, queue, worker, environment, bench.folder / "worker.log"):
            _until_empty(raw, queue)
        finished = used_memory(raw)
        some = [str(job["id"]) for job in pile(min(count, KEYS_LOOKED_AT))]
        document = [raw.memory_usage(names.result_key(job_id)) or 0 for job_id in some]
        claim = [raw.memory_usage(names.claim_key(job_id)) or 0 for job_id in some]
    return Cost(
        jobs=count,
        submitted=(submitted - empty) / count,
        routed=(routed - empty) / count,
        finished=(finished - empty) / count,
        document=sum(document) / len(some),
        claim=sum(claim) / len(some),
    )


def finish_all(raw: redis.Redis, client: Client, result: Any, ttl: int) -> None:
    """Store a result for every job of the batch."""
    ids = list(client.jobs(BATCH))
    for start in range(0, len(ids), PAGE):
        finals = [
            (
                job_id, BATCH, State.SUCCESS,
                store.state_document(job_id, State.SUCCESS, result | {"job_id": job_id}),
            )
            for job_id in ids[start : start + PAGE]
        ]  # fmt: skip
        store.run(raw, store.finish(finals, ttl))


def _until_empty(raw: redis.Redis, queue: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while store.run(raw, store.queue_lengths([queue]))[queue] or raw.hlen(UNACKED_KEY):
        if time.monotonic() > limit:
            raise YardUnavailable(f"{queue} was not empty after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.05)


def body_of(costs: Sequence[Cost]) -> str:
    """The table."""
    rows = [
        [
            f"{cost.jobs:,}",
            *(f"{value:,.0f}" for value in (cost.submitted, cost.routed, cost.finished)),
            *(f"{value:,.0f}" for value in (cost.document, cost.claim)),
        ]
        for cost in costs
    ]
    header = ["jobs", "submitted", "routed", "finished", "of it result", "of it claim"]
    return aligned(header, rows) + "\n\nbytes a job"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_memory", description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = this_machine()
    try:
        with own_redis(machine, free_cores()) as (bench, machine):
            result = sample_result(bench)
            costs = []
            for count in options.jobs:
                costs.append(measure(bench, count, result))
                print(body_of(costs[-1:]), file=sys.stderr, flush=True)
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    show("Redis's memory for a job", machine, body_of(costs))
    write_json(options.json, "job_memory", machine, [asdict(cost) for cost in costs])
    return 0


if __name__ == "__main__":
    sys.exit(main())
