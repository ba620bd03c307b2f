"""One Celery task as the pool holds it, from its arrival to its outcome."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchyard.errors import InvalidJob, shown
from batchyard.job import Job, parse_job
from batchyard.jsonvalue import printable
from batchyard.route import Route

Callback = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What Celery handed to the pool for one message: its tracer with arguments, and whom to tell."""

    trace: Callback
    args: tuple[Any, ...]
    callback: Callback
    timeout_callback: Callback | None
    received: float
    """Seconds since the epoch."""

    @property
    def task_name(self) -> str:
        """Name of the Celery task."""
        return str(self.args[0])

    @property
    def task_id(self) -> str:
        """Id of the Celery task, which is the job's id."""
        return str(self.args[1])

    @property
    def headers(self) -> dict[str, Any]:
        """Headers of the message, ours among them (`batch`, `submitted`, `routed`)."""
        return dict(self.args[2])


@dataclass(eq=False)
class PoolJob:
    """A job in the pool. Celery keeps a weak reference to it and calls `terminate` for a revoked task."""

    delivery: Delivery
    job: Job
    route: Route
    on_terminate: Callable[["PoolJob"], None]
    request: dict[str, Any] = field(default_factory=dict)
    """What the engine is asked."""
    key: str = ""
    """Its name in the engine: unlike the job's id, never used twice."""
    deaths: int = 0
    """How many engines ended with this job inside."""
    timers: list[Any] = field(default_factory=list)
    twins: list[Delivery] = field(default_factory=list)
    """Further deliveries of the same message while the job runs; they are acknowledged with it."""

    @property
    def batch(self) -> str:
        """The job's batch, or an empty text."""
        return self.job.batch or ""

    @property
    def attempt(self) -> int:
        """1 for the first run."""
        return int(self.delivery.headers.get("retries") or 0) + 1

    def terminate(self, _signal: Any = None) -> None:
        """Take the job out of the engine; whoever calls this has told the caller already."""
        self.on_terminate(self)


def read_body(delivery: Delivery) -> tuple[Job, Route]:
    """The job and its route in the message of a run task.

    Raises:
        InvalidJob: the message is not one of the router's.
    """
    try:
        body = delivery.args[3]
        kwargs = (json.loads(body) if isinstance(body, str | bytes) else body)[1]
        route = Route.model_validate(kwargs["route"])
        # The text was measured at submit; a smaller limit set since then must not fail accepted jobs.
        job = parse_job(kwargs["job"], max_prompt_bytes=1 << 62)
    except (ValueError, LookupError, TypeError, RecursionError) as exc:
        raise InvalidJob(
            printable(f"not a message of the router: {exc!r}", 300),
            code="unprocessable_message",
            remedy="submit jobs through the client",
        ) from exc
    if job.id != delivery.task_id:
        raise InvalidJob(
            f"the message's id is {shown(delivery.task_id)}, the job's {job.id!r}",
            code="unprocessable_message",
            field="id",
            remedy="submit jobs through the client",
        )
    return job, route
