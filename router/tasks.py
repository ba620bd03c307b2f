"""The router's Celery face: its app with the one task `batchyard.route`, and nothing else of Celery's."""

import logging
import time
from dataclasses import dataclass
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import Reject

from batchyard.app import make_app
from batchyard.errors import YardBusy, YardUnavailable
from batchyard.names import ROUTE_QUEUE, ROUTE_TASK
from batchyard.settings import Settings
from batchyard.submission import MAX_CHUNK
from router.janitor import janitor_step
from router.service import Router, load

logger = logging.getLogger(__name__)

_YEAR_10000 = 253_402_300_800
LOST_TO_ROUTE_ALONE = 2
FAULT_PAUSE_SECONDS = 1.0

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
        properties = self.request.get("properties") or {}
        delivery = Delivery(
            str(properties.get("delivery_tag")), self.request.get("lost"), str(self.request.get("flow") or "")
        )
        run_chunk(router, delivery, args, kwargs)

    app.task(route, bind=True, name=ROUTE_TASK, ignore_result=True)
    app.steps["consumer"].add(_catalogue_step(router))
    app.steps["worker"].add(janitor_step(settings))
    return app


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message's delivery tag, its header that counts the consumers that vanished with it, and the tenant of
    the flow it came through, empty where it came through none."""

    tag: str
    lost: object = 0
    flow: str = ""

    @property
    def name(self) -> str:
        """The same for every delivery of the message: each has its number behind the tag."""
        return self.tag.partition("-")[0]

    @property
    def suspect(self) -> bool:
        """Whether something in the message may have killed them."""
        return isinstance(self.lost, int) and self.lost >= LOST_TO_ROUTE_ALONE


def run_chunk(router: Router, delivery: Delivery, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Route the chunk in a message's arguments. One that is not ours is logged and done with.

    Raises:
        Reject: Redis stayed away; the message goes back to its queue, unharmed.
    """
    if args or (chunk := chunk_of(kwargs)) is None:
        logger.error(
            "a message that is no chunk of jobs was dropped: %d positional arguments, keywords %s",
            len(args),
            sorted(kwargs)[:10],
        )
        return
    jobs, submitted = chunk
    try:
        if delivery.suspect:
            logger.warning("%s routers were lost with a chunk; its jobs are routed one by one", delivery.lost)
            outcome = router.route_one_by_one(jobs, submitted, delivery.name, delivery.flow)
        else:
            outcome = router.route(jobs, submitted, delivery.flow)
    except YardUnavailable as exc:
        logger.error("%d jobs go back to the queue: %s", len(jobs), exc)
        raise Reject(str(exc), requeue=True) from exc
    except Exception as exc:  # a fault of our own: acknowledged, its jobs would wait for ever
        logger.exception("%d jobs go back to the queue", len(jobs))
        time.sleep(FAULT_PAUSE_SECONDS)
        raise Reject(type(exc).__name__, requeue=True) from exc
    logger.info("%d jobs: %s", len(jobs), outcome)


def chunk_of(kwargs: dict[str, Any]) -> tuple[list[object], float] | None:
    """The jobs of a chunk and when they were submitted; None if the keywords are not those of a chunk."""
    jobs, submitted = kwargs.get("jobs"), kwargs.get("submitted")
    if not isinstance(jobs, list) or len(jobs) > MAX_CHUNK:
        return None
    if isinstance(submitted, bool) or not isinstance(submitted, int | float):
        return None
    # a whole number may be larger than any float; a time is not
    return (jobs, float(submitted)) if 0 <= submitted < _YEAR_10000 else None


def _catalogue_step(router: Router) -> type[bootsteps.StartStopStep]:
    """Publishes the catalogue whenever the connection is made, so also to a Redis that came back empty."""

    class PublishCatalogue(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.connection:Connection",)

        def start(self, parent: Any) -> None:
            try:
                router.publish_catalogue()
            except (
                YardBusy
            ) as exc:  # what it has of an earlier router stands; a router is needed now above all
                logger.warning("the catalogue is not published: %s", exc.message)
            except YardUnavailable as exc:
                if exc.__cause__ is not None:
                    raise exc.__cause__ from None  # redis-py's own error makes Celery connect again
                raise

    return PublishCatalogue
