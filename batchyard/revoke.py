"""Telling the workers to drop jobs that are running now, through Celery's own remote control.

Celery is imported when it is needed: that takes longer than the rest of the client.
"""

from collections.abc import Sequence

import redis

from batchyard.errors import YardUnavailable
from batchyard.settings import Settings
from batchyard.store import unavailable

IDS_AT_ONCE = 500
CONNECT_SECONDS = 2
"""For how long Celery tries to connect; our own connection has just reached the same Redis."""


def broadcast_revoke(settings: Settings, job_ids: Sequence[str]) -> None:
    """Tell every worker to end the jobs that it has in hand; one Celery app, however many they are.

    Raises:
        YardUnavailable: Redis cannot be reached. Cancelling again is safe.
    """
    if not job_ids:
        return
    from kombu.exceptions import OperationalError

    from batchyard.app import make_app

    try:
        with make_app(settings, broker_connection_timeout=CONNECT_SECONDS) as app:
            for start in range(0, len(job_ids), IDS_AT_ONCE):
                app.control.revoke(list(job_ids[start : start + IDS_AT_ONCE]), terminate=True)
    except OperationalError as exc:
        raise YardUnavailable(
            f"Redis: {exc}",
            field="BATCHYARD_REDIS_URL",
            remedy="cancel again when Redis is back: jobs that are running were not told",
        ) from exc
    except redis.RedisError as exc:
        raise unavailable(exc) from exc
