"""The Celery pool whose slots are the engine's.

Celery's event loop owns this state; nothing here is shared with a thread. Celery hands over one message at
a time (`on_apply`); the job goes to the engine's child process as a frame; when the engine has answered,
Celery's own tracer runs the task's body with the outcome, so that result, acknowledgement, retry, events
and time limits stay what they are in any Celery worker.

Whom the engine is given next is `Turns`' decision, whether it may be given anything `Health`'s: after a death
the jobs that were in it run again one at a time, and one under which it dies a second time, alone, ends as a
dead letter; the others never notice.
"""

import itertools
import logging
import os
import select
import time
from collections import deque
from typing import Any

from celery.concurrency.base import BasePool
from celery.exceptions import Reject, SoftTimeLimitExceeded, WorkerTerminate
from celery.worker import state

from batchyard.errors import YardError
from batchyard.names import RUN_TASK
from workers.blobs import owner_of
from workers.engine.errors import DECODE_FAILED
from workers.engine.frames import FrameError
from workers.engine_process import Frame
from workers.health import Health, May
from workers.outcome import Outcome, outcome_of, unspeakable
from workers.pool_job import LOST_TO_RUN_ALONE, Delivery, PoolJob, read_body
from workers.prefetch import Prefetch
from workers.requests import engine_request
from workers.start import LOAD_SECONDS
from workers.turns import Turns
from workers.yard import Yard, died_alone, lost_alone

logger = logging.getLogger(__name__)

MAX_FAILED_STARTS = 3
WATCH_SECONDS = 15.0
HANG_SECONDS = 120.0
"""An engine that has jobs and says nothing for this long hangs; it answers `stats` between two steps."""
STORE_AGAIN_SECONDS = 2.0
TEST = "test"
"""The name of the test in the engine; those of jobs have a number."""


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
        self._feed_timer: Any = None
        self._numbers = itertools.count()
        self._jobs: dict[str, PoolJob] = {}
        """Every job of this pool, by id."""
        self._turns = Turns()
        self._health = Health(2 * self.limit)
        self._sound = True
        """What the log was told of it."""
        self._unstored: deque[tuple[Delivery, Outcome]] = deque()
        """Those whose results the store has not taken yet, in the order in which they ended."""
        self._ended = False
        self._failed_starts = 0
        self._restarts = 0
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
        if not self._yard.mark_started(unit):
            self._settle(delivery, Outcome())
            return None
        self._admit(unit, request, soft_timeout, timeout)
        return unit

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
        self._turns.arrive(unit)
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
        """Let the jobs in the engine finish, and their results be stored, within `drain_seconds`, or until a
        cold shutdown is asked for; the rest go back to the queue."""
        limit = time.monotonic() + self._yard.drain_seconds
        while (self._jobs or self._unstored) and not self._ended and not state.should_terminate:
            left = limit - time.monotonic()
            if left <= 0:
                break
            # The loop that fired timers has ended; leases must be renewed and time limits kept until we have.
            soon = self._hub.fire_timers(max_delay=1) if self._hub is not None else 1
            writers = [self._engine.write_fd] if self._engine.unsent else []
            select.select([self._engine.fileno()], writers, [], max(0.0, min(left, soon)))
            self._engine.flush()
            self._on_readable()
        for unit in self._jobs.values():
            self._yard.ran_alone(unit)
        if left_over := len(self._jobs) + len(self._unstored):
            logger.warning("%d jobs not finished within the drain limit go back", left_over)
            self._engine.kill()  # they are to run elsewhere at once, not when it has noticed
        self.on_terminate()

    def on_terminate(self) -> None:
        """End the engine; a second signal may ask for it while the first is being obeyed."""
        if not self._ended:
            self._ended = True
            self._engine.end()

    def _get_info(self) -> dict[str, Any]:
        engine = {"pid": self._engine.pid, "gpu": self._yard.gpu, "restarts": self._restarts}
        engine |= self._engine.info
        stock: dict[str, Any] = super()._get_info()
        return stock | {"processes": [self._engine.pid], "engine": engine}

    # -- the engine's side --------------------------------------------------------------------------

    def _feed(self) -> None:
        """Give the engine what it may have: jobs, or the test of whether it is sound."""
        self._show_health()
        # while somebody is to run alone nothing comes in for who leaves, but for interactive jobs
        self.prefetch.narrow(len(self._jobs) if self._turns.suspects else None)
        if not self._engine.ready:
            return
        may = self._health.next(now := time.monotonic())
        if may is May.JOBS:
            for unit in self._turns.enter():
                self._give(unit)
        elif may is May.TEST:
            self._send({"op": "submit", "request": self._yard.test | {"id": TEST}})
        elif (left := self._health.left(now)) > 0:
            self._feed_later(left)

    def _feed_later(self, seconds: float) -> None:
        if self._feed_timer is not None:
            self._feed_timer.cancel()
        self._feed_timer = self._hub.call_later(seconds, self._feed)

    def _show_health(self) -> None:
        """Take jobs only while the engine is sound; the log says so once."""
        if self._sound is not self._health.good:
            self._sound = self._health.good
            if self._sound:
                logger.warning("the engine answers again: jobs are taken")
            else:
                logger.error("the engine keeps dying or failing: no job is taken until it has passed a test")
            self.prefetch.pause(not self._sound)

    def _give(self, unit: PoolJob) -> None:
        if unit.lost >= LOST_TO_RUN_ALONE and not unit.deaths and not self._yard.may_run_alone(unit):
            self._turns.leave(unit.key)
            self._bury(unit, lost_alone(unit.lost))
            return
        try:
            self._send({"op": "submit", "request": unit.request})
        except (FrameError, ValueError) as exc:
            self._turns.leave(unit.key)
            self._end(unit, Outcome(error=unspeakable(exc)))

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
            self._on_answer(frame)
        elif op == "need_image":
            self._supply(frame["sha256"])
        else:
            return
        self._feed()

    def _supply(self, name: str) -> None:
        """Send the engine an image that jobs in it wait for; they wait while Redis is away."""
        owner = owner_of(name, (unit.job for unit in self._turns.inside))
        frame = self._yard.image(name, *owner)
        if frame is None:
            self._hub.call_later(STORE_AGAIN_SECONDS, self._supply, name)
            return
        self._send(frame)

    def _on_answer(self, frame: Frame) -> None:
        broken = frame["op"] == "failed" and frame["error"]["code"] == DECODE_FAILED
        if frame["id"] == TEST:
            culprit = self._health.tested(time.monotonic(), broken=broken)
            if culprit is not None and broken:  # the engine lives, and does not work: no proof against a job
                culprit.deaths -= 1
                self._turns.arrive(culprit)
            elif culprit is not None:
                self._bury(culprit, died_alone(culprit.death), culprit.death)
            return
        unit = self._turns.leave(frame["id"])
        if unit is not None:  # else it was expelled, and its caller has been told
            self._health.answered(time.monotonic(), broken=broken)
            self._end(unit, outcome_of(unit, frame, self._yard.worker, self._yard.gpu))

    def _on_death(self) -> None:
        was_ready = self._engine.ready
        if self._hub is not None:
            self._hub.remove(self._engine.fileno())
            self._hub.remove(self._engine.write_fd)
        how = self._engine.end()
        logger.error("the engine ended (%s) with %d jobs in it", how, len(self._turns.inside))
        accused = self._turns.died()
        if accused is not None:
            accused.death = how
        cleared = self._health.died(time.monotonic(), accused)
        if cleared is not None:  # the engine dies of the test, too
            cleared.deaths -= 1
            self._turns.arrive(cleared)
        self._failed_starts += 0 if was_ready else 1
        if self._failed_starts >= MAX_FAILED_STARTS:
            logger.critical("the engine did not come up %d times in a row; giving up", self._failed_starts)
            raise WorkerTerminate(1)
        self._engine.restart()
        self._restarts += 1
        self._heard = time.monotonic()
        if self._hub is not None:
            self._hub.add_reader(self._engine.fileno(), self._on_readable)
        self._feed()

    # -- the end of a job ---------------------------------------------------------------------------

    def _expel(self, unit: PoolJob) -> None:
        """Take a job out of wherever it is, without an outcome."""
        self._forget(unit)
        self._health.withdraw(unit)
        if self._turns.withdraw(unit):
            self._send({"op": "cancel", "id": unit.key})

    def _forget(self, unit: PoolJob) -> None:
        self._jobs.pop(unit.job.id, None)
        for timer in unit.timers:
            timer.cancel()
        self._yard.ran_alone(unit)

    def _bury(self, unit: PoolJob, reason: str, death: str | None = None) -> None:
        """End a job as a dead letter, then as any other that failed: Celery's tracer finds its result stored.
        While Redis is away the job waits, unacknowledged."""
        try:
            outcome = self._yard.bury(unit, reason, death)
        except YardError as exc:
            logger.warning("the dead letter of %s is not stored yet: %s", unit.job.id, exc)
            self._hub.call_later(STORE_AGAIN_SECONDS, self._bury, unit, reason, death)
            return
        self._end(unit, outcome)

    def _end(self, unit: PoolJob, outcome: Outcome) -> None:
        self._forget(unit)
        self._settle(unit.delivery, outcome)
        self._settle_twins(unit)

    def _settle_twins(self, unit: PoolJob) -> None:
        for twin in unit.twins:
            self._settle(twin, Outcome())
        self._feed()

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """End a job. While the store refuses, it stays unacknowledged, its lease renewed, and is tried again;
        so do those that end meanwhile, unasked: each attempt may take as long as Redis is given to answer."""
        if self._unstored or not self._stored(delivery, outcome):
            self._unstored.append((delivery, outcome))
            if len(self._unstored) == 1:
                self._hub.call_later(STORE_AGAIN_SECONDS, self._store_again)

    def _store_again(self) -> None:
        try:
            while self._unstored:
                delivery, outcome = self._unstored.popleft()
                if not self._stored(delivery, outcome):
                    self._unstored.appendleft((delivery, outcome))
                    break
        finally:
            if self._unstored:
                self._hub.call_later(STORE_AGAIN_SECONDS, self._store_again)

    def _stored(self, delivery: Delivery, outcome: Outcome) -> bool:
        """Run Celery's tracer with the outcome, then tell Celery, with the time the job really took; False if
        the store refused."""
        self._yard.outcomes.put(delivery.task_id, outcome)
        backend = self.app.backend
        try:
            with backend.reject_if_not_stored():
                failed, value, _ = delivery.trace(*delivery.args)
        except Reject as exc:
            logger.warning("the result of %s is not stored yet: %s", delivery.task_id, exc.reason)
            return False
        delivery.callback((failed, value, time.time() - delivery.received))
        return True
