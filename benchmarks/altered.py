"""The yard's own router and worker, with the guarantees taken out of them, and an engine of no cost.

    python -m benchmarks.altered DESIGN router worker | workers --model NAME …

DESIGN is `guaranteed` (nothing is taken out), `stock_late` or `stock_early`: kombu's Redis transport and
Celery's result backend as they are, late or early acknowledgement, no lease, no state before the result, no
compare-and-set, no batch counters or streams, no flows, no janitor. What does the work stays: router, Celery,
pool, engine. Entries of the engine `openai` get the engine of no cost in every design.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Celery, bootsteps
from celery.backends.redis import RedisBackend

from batchyard import names, store
from batchyard.app import make_app
from batchyard.settings import Settings
from batchyard.store import Op, Publication

GUARANTEED, STOCK_LATE, STOCK_EARLY = "guaranteed", "stock_late", "stock_early"
DESIGNS = (GUARANTEED, STOCK_LATE, STOCK_EARLY)


class StockBackend(RedisBackend):
    """Celery's own backend; a write that Redis refuses is Celery's affair."""

    @contextmanager
    def reject_if_not_stored(self) -> Iterator[None]:
        """What the pool asks of its backend."""
        yield


def stock_app(
    late: bool, settings: Settings, name: str = "batchyard", *, interactive_extra: int = 0, **conf: Any
) -> Celery:
    """The role's app on kombu's own transport and Celery's own backend."""
    stock = {
        "broker_transport": "redis",
        "worker_consumer": "celery.worker.consumer:Consumer",
        "broker_transport_options": {
            "priority_steps": list(names.PRIORITY_STEPS),
            "sep": names.PRIORITY_SEPARATOR,
            "queue_order_strategy": "round_robin",
        },
        "result_backend": f"benchmarks.altered:StockBackend+{settings.url}",
        "task_acks_late": late,
    }
    return make_app(settings, name, **conf | stock)


def stock_publish(publications: Sequence[Publication], ttl: int) -> Op[int]:
    """Push the messages of routed jobs."""
    yield [("LPUSH", names.priority_queue(one.queue, one.priority), one.message) for one in publications]
    return len(publications)


def exchange(owner: Any, name: str, part: object) -> None:
    """Put a part in the place of another, in this process."""
    getattr(owner, name)  # one that is not there under this name would go on guaranteeing
    setattr(owner, name, part)


def run_router(design: str, arguments: Sequence[str]) -> int:
    """The router; returns its exit status."""
    from router import cli, tasks  # no role imports the other's code: their memory is compared

    if design != GUARANTEED:
        exchange(tasks, "make_app", partial(stock_app, design == STOCK_LATE))
        exchange(tasks, "janitor_step", lambda settings: bootsteps.StartStopStep)
        exchange(store, "publish", stock_publish)
    return cli.main(arguments)


def run_worker(design: str, arguments: list[str]) -> int:
    """A worker; returns its exit status."""
    from workers import __main__, start, tasks, yard

    start.PROGRAMS["openai"] = "benchmarks.no_cost_engine"
    if design != GUARANTEED:
        exchange(tasks, "make_app", partial(stock_app, design == STOCK_LATE))
        exchange(yard.Yard, "mark_started", lambda yard, unit: True)
    return __main__.main(arguments)


def main() -> int:
    """Run the role until it is told to stop."""
    design, role, *rest = sys.argv[1:]
    return run_worker(design, rest) if role == "workers" else run_router(design, rest)


if __name__ == "__main__":
    sys.exit(main())
