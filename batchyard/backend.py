"""Celery's Redis result backend with the rule *first final result wins*, for every task of the yard.

The check and the write are one Lua call, together with the batch's completion stream and counters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from celery.backends.redis import RedisBackend
from celery.exceptions import Reject

from batchyard.names import model_of_queue
from batchyard.scripts import STORE
from batchyard.states import FINAL, State
from batchyard.wire import attempt

DEFAULT_EXPIRES = 604_800


class Backend(RedisBackend):
    """The backend to name in `result_backend`: `batchyard.backend:Backend+redis://…`."""

    _refusing = False

    @contextmanager
    def reject_if_not_stored(self) -> Iterator[None]:
        """Within this, a write that Redis refuses raises `Reject`, which Celery's tracer lets through.

        Any other error the tracer would take for the task's own and store it as the job's failure as soon
        as Redis is back, although the job succeeded.
        """
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        meta["attempt"] = attempt(getattr(request, "retries", 0), getattr(request, "lost", 0))
        route = (getattr(request, "kwargs", None) or {}).get("route")
        if state in FINAL and state != State.SUCCESS and route:  # an answer has its own
            meta["route"] = route
        batch = getattr(request, "batch", None) or ""
        delivery = getattr(request, "delivery_info", None) or {}
        model = model_of_queue(str(delivery.get("routing_key") or ""))
        ttl = int(self.expires or DEFAULT_EXPIRES)
        args = (ttl, task_id, batch, state, self.encode(meta), int(state in FINAL), model)
        try:
            self.ensure(lambda: self.client.eval(STORE, 0, *args), ())
        except redis.RedisError as exc:
            if self._refusing:
                raise Reject(exc, requeue=True) from exc
            raise
        return result
