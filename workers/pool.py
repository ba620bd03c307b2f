"""The Celery pool whose slots are the engine's.

Celery's event loop owns this state; nothing here is shared with a thread. Celery hands over one message at
a time (`on_apply`); the job goes to the engine's child process as a frame; when the engine has answered,
Celery's own tracer runs the task's body with the outcome, so that result, acknowledgement, retry, events
and time limits stay what they are in any Celery worker.

When the engine dies, the jobs that were in it are run again one at a time: one under which it dies a
second time, alone, is the culprit, and fails; the others never notice.
"""

import itertools
import logging
import os
import select
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import redis
from celery.concurrency.base import BasePool
from celery.exceptions import Reject, SoftTimeLimitExceeded, WorkerTerminate

from batchyard import store
from batchyard.catalogue import Catalogue
from batchyard.errors import EngineLost, JobFailed, YardError, error_of
from batchyard.names import RUN_TASK
from batchyard.result import Result
from batchyard.states import State
from workers.blobs import ImageLimits, image_frame, owner_of
from workers.engine.frames import FrameError
from workers.engine_process import EngineProcess, Frame
from workers.pool_job import Delivery, PoolJob, read_body
from workers.prefetch import Prefetch
from workers.requests import engine_request, success
from workers.start import LOAD_SECONDS
from workers.tasks import Outcome, Outcomes

logger = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
WATCH_SECONDS = 15.0
HANG_SECONDS = 120.0
"""An engine that has jobs and says nothing for this long hangs; it answers `stats` between two steps."""
STORE_AGAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Yard:
    """What the pool needs of its worker; hung on the Celery app as `app.yard`."""

    engine: EngineProcess
    outcomes: Outcomes
    catalogue: Catalogue
    redis: redis.Redis
    worker: str
    gpu: str | None
    result_expires: int
    drain_seconds: float
    image_limits: ImageLimits


class EnginePool(BasePool):
    """Runs jobs in one engine process. `concurrency` is the number of its slots."""

    body_can_be_buffer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._yard: Yard = self.app.yard
        self._engine = self._yard.engine
        self._hub: Any = None
        self._frames: deque[Frame] = deque()
        """Frames that have come and are not dealt with yet."""
        self._heard = time.monotonic()
        """When the engine last said anything."""
        self._watch_timer: Any = None
        self._numbers = itertools.count()
        self._jobs: dict[str, PoolJob] = {}
        """Every job of this pool, by id."""
        self._inside: dict[str, PoolJob] = {}
        """Those that the engine has been given, by key."""
        self._held: deque[PoolJob] = deque()
        """Those that wait for the engine to come up."""
        self._suspects: deque[PoolJob] = deque()
        """Those that an engine died with, to be run alone."""
        self._failed_starts = 0
        self.prefetch = Prefetch(self.limit)

    # -- Celery's side ------------------------------------------------------------------------------

    @property
    def num_processes(self) -> int:
        """How many jobs Celery may fetch: the slots that the engine wants used."""
        return self.prefetch.limit

    def register_with_event_loop(self, hub: Any) -> None:
        """Celery calls this at each (re)connection, with a loop that has forgotten everything."""
        self._hub = hub
        hub.add_reader(self._engine.fileno(), self._on_readable)
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        self._watch_timer = hub.call_repeatedly(WATCH_SECONDS, self._watch)
        self._heard = time.monotonic()  # while Celery had no connection, nobody listened
        hub.call_soon(self._on_readable)  # for what has come together with `ready`
        self._write()

    def on_apply(
        self, target: Any, args: Any, kwargs: Any, callback: Any = None, accept_callback: Any = None,
        timeout_callback: Any = None, soft_timeout: float | None = None, timeout: float | None = None,
        **_options: Any,
    ) -> PoolJob | None:  # fmt: skip
        """Take one task. A run task goes to the engine; any other is run at once."""
        delivery = Delivery(target, tuple(args), callback, timeout_callback, time.time())
        accept_callback(os.getpid(), time.monotonic())
        if delivery.task_name != RUN_TASK:
            callback(target(*args, **kwargs))
            return None
        running = self._jobs.get(delivery.task_id)
        if running is not None:
            running.twins.append(delivery)
            return None
        try:
            job, route = read_body(delivery)
            request = engine_request(
                job, route.task, self._yard.catalogue, self._yard.catalogue.model(route.model)
            )
        except YardError as exc:
            self._settle(delivery, Outcome(error=exc))
            return None
        unit = PoolJob(delivery, job, route, on_terminate=self._drop)
        if not self._mark_started(unit):
            self._settle(delivery, Outcome())
            return None
        self._admit(unit, request, soft_timeout, timeout)
        return unit

    def _mark_started(self, unit: PoolJob) -> bool:
        """Whether the job is still wanted: one that is finished or cancelled is not run again."""
        document = store.state_document(unit.job.id, State.STARTED, {"hostname": self._yard.worker})
        started = (unit.job.id, unit.batch, State.STARTED, document)
        try:
            return store.run(self._yard.redis, store.finish([started], self._yard.result_expires)) == 1
        except YardError:
            # The answer will be stored once, by compare-and-set, whether or not we could ask before.
            logger.warning("could not mark %s as started; running it", unit.job.id, exc_info=True)
            return True

    def _admit(
        self, unit: PoolJob, request: dict[str, Any], soft_timeout: float | None, timeout: float | None
    ) -> None:
        unit.key = f"{unit.job.id}#{next(self._numbers)}"
        unit.request = request | {"id": unit.key}
        self._jobs[unit.job.id] = unit
        if soft_timeout:
            unit.timers.append(self._hub.call_later(soft_timeout, self._on_soft_timeout, unit, soft_timeout))
        if timeout:
            unit.timers.append(self._hub.call_later(timeout, self._on_hard_timeout, unit, timeout))
        self._held.append(unit)
        self._feed()

    def _on_soft_timeout(self, unit: PoolJob, seconds: float) -> None:
        self._tell_timeout(unit, soft=True, seconds=seconds)
        self._expel(unit)
        self._settle(unit.delivery, Outcome(error=SoftTimeLimitExceeded(seconds)))
        self._settle_twins(unit)

    def _on_hard_timeout(self, unit: PoolJob, seconds: float) -> None:
        self._expel(unit)
        self._tell_timeout(unit, soft=False, seconds=seconds)  # stores the failure and acknowledges
        self._settle_twins(unit)

    @staticmethod
    def _tell_timeout(unit: PoolJob, *, soft: bool, seconds: float) -> None:
        if unit.delivery.timeout_callback is not None:
            unit.delivery.timeout_callback(soft, seconds)

    def _drop(self, unit: PoolJob) -> None:
        """A revoked job: Celery has stored its state and acknowledged it."""
        self._expel(unit)
        self._settle_twins(unit)

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Celery would kill the job's process; here `PoolJob.terminate` takes out just the job."""

    def on_stop(self) -> None:
        """Let the jobs in the engine finish within `drain_seconds`; the rest go back to the queue."""
        limit = time.monotonic() + self._yard.drain_seconds
        while self._jobs and (left := limit - time.monotonic()) > 0:
            # The loop that fired timers has ended; leases must be renewed and time limits kept until we have.
            soon = self._hub.fire_timers(max_delay=1) if self._hub is not None else 1
            writers = [self._engine.write_fd] if self._engine.unsent else []
            select.select([self._engine.fileno()], writers, [], max(0.0, min(left, soon)))
            self._engine.flush()
            self._on_readable()
        if self._jobs:
            logger.warning("%d jobs not finished within the drain limit go back", len(self._jobs))
        self.on_terminate()

    def on_terminate(self) -> None:
        """End the engine."""
        self._engine.end()

    def _get_info(self) -> dict[str, Any]:
        engine = {"pid": self._engine.pid, "gpu": self._yard.gpu, **self._engine.info}
        stock: dict[str, Any] = super()._get_info()
        return stock | {"processes": [self._engine.pid], "engine": engine}

    # -- the engine's side --------------------------------------------------------------------------

    def _feed(self) -> None:
        """Give the engine what it may have: everything, or a single suspect."""
        if not self._engine.ready:
            return
        if self._suspects or any(unit.deaths for unit in self._inside.values()):
            if not self._inside:
                self._give(self._suspects.popleft())
            return
        while self._held:
            self._give(self._held.popleft())

    def _give(self, unit: PoolJob) -> None:
        self._inside[unit.key] = unit
        try:
            self._send({"op": "submit", "request": unit.request})
        except (FrameError, ValueError) as exc:
            self._inside.pop(unit.key)
            self._end(unit, Outcome(error=_unspeakable(exc)))

    def _send(self, frame: Frame) -> None:
        self._engine.send(frame)
        self._write()

    def _write(self) -> None:
        self._engine.flush()
        if self._engine.unsent:
            self._hub.add_writer(self._engine.write_fd, self._write)
        elif self._hub is not None:
            self._hub.remove_writer(self._engine.write_fd)

    def _on_readable(self) -> None:
        frames = self._engine.read()
        self._heard = time.monotonic()
        if frames is None:
            self._on_death()
            return
        self._frames.extend(frames)
        self._handle_frames()

    def _handle_frames(self) -> None:
        try:
            while self._frames:
                self._on_frame(self._frames.popleft())
        finally:
            # One job's trouble (Celery's connection is lost, say) must not cost the others their answers.
            if self._frames and self._hub is not None:
                self._hub.call_soon(self._handle_frames)

    def _watch(self) -> None:
        """End an engine that hangs; its jobs then run again as after any other death."""
        quiet = time.monotonic() - self._heard
        if quiet > (HANG_SECONDS if self._engine.ready else LOAD_SECONDS):
            logger.error("the engine has said nothing for %.0f s; ending it", quiet)
            self._engine.kill()
        elif self._engine.ready:
            self._send({"op": "stats"})  # it answers between two steps; `_heard` is when it did

    def _on_frame(self, frame: Frame) -> None:
        op = frame["op"]
        if op == "ready":
            self._failed_starts = 0
            self.prefetch.resize()
        elif op == "capacity":
            self.prefetch.resize(frame["slots"])
        elif op == "load_failed":
            logger.error("the engine cannot load its model: %s", frame["error"]["message"])
        elif op in ("done", "failed"):
            unit = self._inside.pop(frame["id"], None)
            if unit is not None:  # else it was expelled, and its caller has been told
                self._end(unit, self._outcome(unit, frame))
        elif op == "need_image":
            self._supply(frame["sha256"])
        else:
            return
        self._feed()

    def _supply(self, name: str) -> None:
        """Send the engine an image that jobs in it wait for; they wait while Redis is away."""
        owner = owner_of(name, (unit.job for unit in self._inside.values()))
        try:
            frame = image_frame(self._yard.redis, name, *owner, self._yard.image_limits)
        except YardError:
            logger.warning("could not fetch the image %s…; trying again", owner[1][:12], exc_info=True)
            self._hub.call_later(STORE_AGAIN_SECONDS, self._supply, name)
            return
        self._send(frame)

    def _outcome(self, unit: PoolJob, frame: Frame) -> Outcome:
        if frame["op"] == "failed":
            error = frame["error"]
            rest = {key: error.get(key) for key in ("field", "remedy", "retryable")}
            return Outcome(
                error=error_of(error["code"], error["message"], **rest), max_retries=unit.job.max_retries,
                retry_after=error.get("retry_after") or 0.0, deadline=unit.job.deadline,
            )  # fmt: skip
        headers = unit.delivery.headers
        try:
            return Outcome(result=self._result(unit, frame, headers))
        except (LookupError, TypeError, ValueError) as exc:
            logger.exception("the engine's answer to %s cannot be read", unit.job.id)
            return Outcome(error=_unspeakable(exc))

    def _result(self, unit: PoolJob, frame: Frame, headers: dict[str, Any]) -> Result:
        return success(
            unit.job, unit.route, frame["completion"], worker=self._yard.worker, gpu=self._yard.gpu,
            attempt=unit.attempt, submitted=headers.get("submitted") or unit.delivery.received,
            routed=headers.get("routed") or unit.delivery.received, received=unit.delivery.received,
            finished=time.time(),
        )  # fmt: skip

    def _on_death(self) -> None:
        was_ready = self._engine.ready
        if self._hub is not None:
            self._hub.remove(self._engine.fileno())
            self._hub.remove(self._engine.write_fd)
        how = self._engine.end()
        inside, self._inside = list(self._inside.values()), {}
        logger.error("the engine ended (%s) with %d jobs in it", how, len(inside))
        for unit in inside:
            unit.deaths += 1
        culprit = inside[0] if len(inside) == 1 and inside[0].deaths > 1 else None
        if culprit is None:
            self._suspects.extend(inside)
        self._failed_starts += 0 if was_ready else 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            logger.critical("the engine did not come up %d times in a row; giving up", self._failed_starts)
            raise WorkerTerminate(1)
        self._engine.restart()
        self._heard = time.monotonic()
        if self._hub is not None:
            self._hub.add_reader(self._engine.fileno(), self._on_readable)
        if culprit is not None:  # not before there is an engine to feed again
            self._end(culprit, Outcome(error=_poison(how)))

    # -- the end of a job ---------------------------------------------------------------------------

    def _expel(self, unit: PoolJob) -> None:
        """Take a job out of wherever it is, without an outcome."""
        self._forget(unit)
        for line in (self._held, self._suspects):
            if unit in line:
                line.remove(unit)
        if self._inside.pop(unit.key, None) is not None:
            self._send({"op": "cancel", "id": unit.key})

    def _forget(self, unit: PoolJob) -> None:
        self._jobs.pop(unit.job.id, None)
        for timer in unit.timers:
            timer.cancel()

    def _end(self, unit: PoolJob, outcome: Outcome) -> None:
        self._forget(unit)
        self._settle(unit.delivery, outcome)
        self._settle_twins(unit)

    def _settle_twins(self, unit: PoolJob) -> None:
        for twin in unit.twins:
            self._settle(twin, Outcome())
        self._feed()

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Run Celery's tracer with the outcome, then tell Celery, with the time the job really took. While
        the store refuses, the job stays unacknowledged, its lease renewed, and is tried again."""
        self._yard.outcomes.put(delivery.task_id, outcome)
        backend = self.app.backend
        try:
            with backend.reject_if_not_stored():
                failed, value, _ = delivery.trace(*delivery.args)
        except Reject as exc:
            logger.warning("the result of %s is not stored yet: %s", delivery.task_id, exc.reason)
            self._hub.call_later(STORE_AGAIN_SECONDS, self._settle, delivery, outcome)
            return
        delivery.callback((failed, value, time.time() - delivery.received))


def _unspeakable(exc: Exception) -> JobFailed:
    return JobFailed(
        f"worker and engine cannot pass this job between them: {exc!r}"[:300],
        code="engine_protocol",
        remedy="shorten it; if it is short, this is a bug",
    )


def _poison(how: str) -> EngineLost:
    return EngineLost(
        f"the engine process ended with {how} while this job ran alone in it",
        remedy="keep the job's input for a bug report; other jobs are not affected",
        retryable=False,
    )
