"""The worker's Celery face: its app and the one task it runs.

The task's body does no work: by the time Celery's tracer calls it, the engine has finished the job, and
the body only turns the outcome into a return value, an error or a retry. So every Celery semantic (result,
retry, callbacks, events) stays per job while the jobs themselves ran in shared batches.
"""

import logging
import random
import time
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import Ignore, Reject

from batchyard.app import make_app
from batchyard.catalogue import LlamaEntry, ModelEntry
from batchyard.errors import JobExpired, YardError
from batchyard.names import RUN_TASK, model_queue
from batchyard.settings import Settings
from workers.cancellations import CancellationsStep
from workers.outcome import Outcome, Outcomes
from workers.prefetch import PrefetchStep
from workers.retry import RetryBudget


def interactive_extra(entry: ModelEntry) -> int:
    """How many interactive jobs a worker fetches while all its slots are taken: llama.cpp's engine lets one
    take the place of the youngest batch job, the others cannot. An endpoint that is not asked for a while has
    one slot: whatever came beyond it would be turned away, and cost a retry."""
    return max(1, entry.n_slots // 4) if isinstance(entry, LlamaEntry) else 0


def make_worker_app(settings: Settings, entry: ModelEntry, outcomes: Outcomes) -> Celery:
    """The app of the worker of one model, with the task `batchyard.run`."""
    queue = model_queue(entry.model_name)
    app = make_app(
        settings,
        "batchyard",
        interactive_extra=interactive_extra(entry),
        worker_concurrency=entry.n_slots,
        task_default_queue=queue,
        worker_soft_shutdown_timeout=0.0,
    )
    # Celery logs each return value at info, and answers are the customer's text; and a line for each message.
    for name in ("celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(name).setLevel(logging.WARNING)

    budget = RetryBudget(2 * entry.n_slots)

    def run(self: Any, **_kwargs: Any) -> dict[str, Any]:
        outcome = outcomes.take(self.request.id)
        if outcome.error is not None:
            fail(self, outcome.error, outcome, budget)
        if outcome.result is None:
            raise Ignore
        budget.earn()
        return outcome.result.model_dump(mode="json", exclude_defaults=True, exclude={"state"})

    app.steps["consumer"].add(PrefetchStep)
    app.steps["consumer"].add(CancellationsStep)
    app.task(run, bind=True, name=RUN_TASK, resultrepr_maxsize=64, throws=(YardError,))
    return app


def fail(task: Any, error: Exception, outcome: Outcome, budget: RetryBudget) -> NoReturn:
    """Raise what the task's body must for an error: a retry while one can help, else the error itself; a
    deadline that has passed, or will before the next attempt, is a revocation, as Celery makes it for a
    message whose `expires` has passed."""
    if isinstance(error, JobExpired):
        expire(task)
    retries = task.request.retries
    if not (isinstance(error, YardError) and error.retryable and retries < outcome.max_retries):
        raise error
    delay = outcome.retry_after + budget.delay(retries, random.random())
    if outcome.deadline is not None and time.time() + delay >= outcome.deadline:
        expire(task)
    try:
        # "-": without it Celery copies the prompt into headers and events.
        raise task.retry(
            exc=error, countdown=delay, max_retries=outcome.max_retries, argsrepr="-", kwargsrepr="-"
        )
    except Reject as exc:  # the next attempt could not be published; this one must not be acknowledged
        raise Reject(exc.reason, requeue=True) from exc


def expire(task: Any) -> NoReturn:
    """End the job of a task as one whose deadline has passed."""
    task.backend.mark_as_revoked(task.request.id, "expired", request=task.request)
    raise Ignore
