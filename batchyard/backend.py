"""Celery's Redis result backend with the rule *first final result wins*, for every task of the yard.

The check and the write are one Lua call, together with the batch's completion stream and counters.
"""

from typing import Any

from celery.backends.redis import RedisBackend

from batchyard.scripts import STORE
from batchyard.states import FINAL


class Backend(RedisBackend):
    """The backend to name in `result_backend`: `batchyard.backend:Backend+redis://…`."""

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        batch = getattr(request, "batch", None) or ""
        key = self.get_key_for_task(task_id)
        key = key.decode() if isinstance(key, bytes) else key
        final = state in FINAL
        document = self.encode(meta)
        args = (key, int(self.expires or 0) or 604_800, task_id, batch, state, document, int(final))
        self.ensure(lambda: self.client.eval(STORE, 0, *args), ())
        return result
