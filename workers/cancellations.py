"""Jobs that are cancelled, or end otherwise, while this worker has them: found in the store, and dropped.

The store is asked for every job in hand, so nobody needs a way to command workers in order to cancel a job,
and nothing is missed that was said while the connection was away.
"""

import logging
from typing import Any

import redis
from celery import bootsteps
from celery.worker import state as celery_state

from batchyard import store
from batchyard.errors import YardError
from batchyard.states import State

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


class CancellationsStep(bootsteps.StartStopStep):
    """The step of Celery's consumer that looks, from each connection to its end."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Connected, with an event loop."""
        self._timer = parent.hub.call_repeatedly(LOOK_SECONDS, self._look, parent)

    def stop(self, parent: Any) -> None:
        """The connection is lost, or the worker stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _look(parent: Any) -> None:
        in_hand = list(celery_state.requests)
        try:
            states = store.run(parent.app.yard.redis, store.states(in_hand))
        except (redis.RedisError, YardError):
            logger.warning("could not ask which jobs were cancelled", exc_info=True)
            return
        for job_id, state in zip(in_hand, states, strict=True):
            request = celery_state.requests.get(job_id)
            if state is State.REVOKED and request is not None:
                celery_state.revoked.add(job_id)  # one that waits for its time is dropped when that comes
                request.terminate(parent.pool, signal="TERM")
