"""One Celery task as the pool holds it, from its arrival to its outcome."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchyard.errors import InvalidJob, shown
from batchyard.job import Job, parse_job
from batchyard.jsonvalue import printable
from batchyard.names import INTERACTIVE_PRIORITIES
from batchyard.route import Route
from batchyard.wire import attempt

Callback = Callable[..., Any]

LOST_TO_RUN_ALONE = 2
"""How often consumers must have vanished with a job before it is suspected of having killed them."""


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
        """Headers of the message, ours among them (`batch`, `submitted`, `routed`, `lost`)."""
        return dict(self.args[2])

    @property
    def tag(self) -> str:
        """Under which the message is kept until it is acknowledged."""
        return str((self.headers.get("properties") or {}).get("delivery_tag") or "")

    @property
    def queue(self) -> str:
        """The queue that the message came from."""
        return str((self.headers.get("delivery_info") or {}).get("routing_key") or "")

    @property
    def lost(self) -> int:
        """How many consumers have vanished with it."""
        value = self.headers.get("lost")
        return value if isinstance(value, int) and value > 0 else 0


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
    death: str = ""
    """How the last of them ended."""
    noted: bool = False
    """Whether Redis has been told that it runs alone."""
    timers: list[Any] = field(default_factory=list)
    twins: list[Delivery] = field(default_factory=list)
    """Further deliveries of the same message while the job runs; they are acknowledged with it."""

    @property
    def batch(self) -> str:
        """The job's batch, or an empty text."""
        return self.job.batch or ""

    @property
    def lost(self) -> int:
        """How many consumers have vanished with it."""
        return self.delivery.lost

    @property
    def attempt(self) -> int:
        """1 for the first delivery; each retry and each lost consumer is one more."""
        return attempt(self.delivery.headers.get("retries"), self.lost)

    @property
    def suspect(self) -> bool:
        """Whether it may have killed its engine or its worker: then it runs alone."""
        return self.deaths > 0 or self.lost >= LOST_TO_RUN_ALONE

    @property
    def interactive(self) -> bool:
        """Whether somebody waits for it."""
        return self.job.priority in INTERACTIVE_PRIORITIES

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
