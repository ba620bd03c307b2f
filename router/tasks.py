"""The router's Celery face: its app with the one task `batchyard.route`, and nothing else of Celery's."""

import logging
import math
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import Reject

from batchyard.app import make_app
from batchyard.errors import YardUnavailable
from batchyard.names import ROUTE_QUEUE, ROUTE_TASK
from batchyard.settings import Settings
from batchyard.submission import MAX_CHUNK
from router.service import Router, load

logger = logging.getLogger(__name__)

WORKER_ARGUMENTS = (
    "worker",
    "--pool=solo",
    f"--queues={ROUTE_QUEUE}",
    "--hostname=router@%h",
    "--task-events",
    "--without-gossip",
    "--without-mingle",
    "--loglevel=INFO",
)


def make_router_app(settings: Settings) -> Celery:
    """The router's app, loaded and ready to work; nothing is connected yet.

    Raises:
        InvalidConfig: catalogue, policy or classifier is at fault.
    """
    router = Router(settings, load(settings))
    app = make_app(
        settings,
        "batchyard",
        task_default_queue=ROUTE_QUEUE,
        worker_concurrency=1,
    )

    def route(self: Any, *args: Any, **kwargs: Any) -> None:
        run_chunk(router, args, kwargs, str(getattr(self.request, "flow", None) or ""))

    app.task(route, bind=True, name=ROUTE_TASK, ignore_result=True)
    app.steps["consumer"].add(_catalogue_step(router))
    return app


def run_chunk(router: Router, args: tuple[Any, ...], kwargs: dict[str, Any], flow: str) -> None:
    """Route the chunk in a message's arguments; `flow` is the tenant of the flow it came through. One that is
    not ours is logged and done with.

    Raises:
        Reject: Redis stayed away; the message goes back to its queue, unharmed.
    """
    if args or (chunk := _chunk(kwargs)) is None:
        logger.error(
            "a message that is no chunk of jobs was dropped: %d positional arguments, keywords %s",
            len(args),
            sorted(kwargs)[:10],
        )
        return
    jobs, submitted = chunk
    try:
        outcome = router.route(jobs, submitted, flow)
    except YardUnavailable as exc:
        logger.error("%d jobs go back to the queue: %s", len(jobs), exc)
        raise Reject(str(exc), requeue=True) from exc
    logger.info("%d jobs: %s", len(jobs), outcome)


def _chunk(kwargs: dict[str, Any]) -> tuple[list[object], float] | None:
    """The jobs of a chunk and when they were submitted; None if the keywords are not those of a chunk."""
    jobs, submitted = kwargs.get("jobs"), kwargs.get("submitted")
    if not isinstance(jobs, list) or len(jobs) > MAX_CHUNK:
        return None
    if not isinstance(submitted, int | float) or not math.isfinite(submitted):
        return None
    return jobs, float(submitted)


def _catalogue_step(router: Router) -> type[bootsteps.StartStopStep]:
    """Publishes the catalogue whenever the connection is made, so also to a Redis that came back empty."""

    class PublishCatalogue(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.connection:Connection",)

        def start(self, parent: Any) -> None:
            try:
                router.publish_catalogue()
            except YardUnavailable as exc:
                if exc.__cause__ is not None:
                    raise exc.__cause__ from None  # redis-py's own error makes Celery connect again
                raise

    return PublishCatalogue
