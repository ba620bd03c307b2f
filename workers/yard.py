"""What the pool needs of its worker: the engine and what to say to it, and what Redis is told of its jobs."""

import logging
from dataclasses import dataclass
from typing import Any

import redis

from batchyard import dead, store
from batchyard.catalogue import Catalogue
from batchyard.errors import YardError
from batchyard.states import State
from workers.blobs import ImageLimits, image_frame
from workers.engine_process import EngineProcess, Frame
from workers.outcome import Outcome, Outcomes
from workers.pool_job import PoolJob

logger = logging.getLogger(__name__)

LOST_ALONE = 3
"""How often a worker must vanish with a job that runs alone in its engine before that job is to blame."""


@dataclass(frozen=True)
class Yard:
    """Hung on the Celery app as `app.yard`."""

    engine: EngineProcess
    outcomes: Outcomes
    catalogue: Catalogue
    redis: redis.Redis
    worker: str
    gpu: str | None
    result_expires: int
    drain_seconds: float
    image_limits: ImageLimits
    test: dict[str, Any]
    """A short request that a sound engine answers."""

    def mark_started(self, unit: PoolJob) -> bool:
        """Whether the job is still wanted: one that is finished or cancelled is not run again."""
        running = {"hostname": self.worker}
        document = store.state_document(unit.job.id, State.STARTED, running, unit.attempt)
        started = (unit.job.id, unit.batch, State.STARTED, document)
        try:
            return store.run(self.redis, store.finish([started], self.result_expires)) == 1
        except YardError:
            # The answer will be stored once, by compare-and-set, whether or not we could ask before.
            logger.warning("could not mark %s as started; running it", unit.job.id, exc_info=True)
            return True

    def may_run_alone(self, unit: PoolJob) -> bool:
        """Note that the job runs alone from now on, so that the next worker knows of it if this one is lost;
        False if enough have been."""
        unit.noted = True
        try:
            return store.run(self.redis, dead.run_alone(unit.job.id)) <= LOST_ALONE
        except YardError:
            logger.warning("could not note that %s runs alone; running it", unit.job.id, exc_info=True)
            return True

    def ran_alone(self, unit: PoolJob) -> None:
        """Take back what was noted: this worker was not lost with the job."""
        if unit.noted:
            unit.noted = False
            try:
                store.run(self.redis, dead.ran_alone(unit.job.id))
            except YardError:
                logger.warning("could not take back that %s runs alone", unit.job.id, exc_info=True)

    def bury(self, unit: PoolJob, reason: str, death: str | None) -> Outcome:
        """Make a dead letter of the job, which ends it, and say what is left for Celery to do.

        Raises:
            YardError: Redis is away; nothing was done.
        """
        letter = dead.Letter(
            id=unit.job.id, kind="poison", job_id=unit.job.id, queue=unit.delivery.queue, reason=reason,
            exit=death, worker=self.worker, attempts=unit.attempt, batch=unit.batch,
        )  # fmt: skip
        error = dead.poison(reason)
        tags = [delivery.tag for delivery in (unit.delivery, *unit.twins)]
        if not store.run(self.redis, dead.bury(letter, error, tags, self.result_expires)):
            return Outcome()  # it has ended otherwise, or its message is another's by now
        logger.error("%s is a dead letter: %s", unit.job.id, reason)
        return Outcome(error=error)

    def image(self, name: str, tenant: str, sha256: str) -> Frame | None:
        """The frame of a tenant's image, by its `name` in the engine, that jobs there wait for; None while
        Redis is away."""
        try:
            return image_frame(self.redis, name, tenant, sha256, self.image_limits)
        except YardError:
            logger.warning("could not fetch the image %s…; trying again", sha256[:12], exc_info=True)
            return None


def died_alone(death: str) -> str:
    """The reason of a job under which the engine died a second time."""
    return f"the engine process ended with {death} while this job ran alone in it, for the second time"


def lost_alone(lost: int) -> str:
    """The reason of a job with which workers vanish."""
    return f"{lost} workers were lost with this job, {LOST_ALONE} of them while it ran alone in its engine"
