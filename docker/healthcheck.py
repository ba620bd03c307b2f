"""Ask the Celery process of this container whether it still answers: exit status 0 or 1.

    python docker/healthcheck.py router
    python docker/healthcheck.py defect_detect

The name is the part before the @ of the worker's name; the other part is the container's host name. The
answer comes through Redis and from the event loop that also takes the jobs, so a worker that has lost its
broker or hangs is found. It says nothing about the quality of answers.
"""

import socket
import sys
from collections.abc import Sequence

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from batchyard.app import make_app
from batchyard.errors import YardError
from batchyard.settings import Settings, load_settings

ANSWER_SECONDS = 8.0


def answers(settings: Settings, worker: str, timeout: float) -> bool:
    """Whether the Celery process named `worker` (`name@host`) answers a ping within `timeout` seconds.

    Raises:
        KombuError, RedisError, OSError: Redis cannot be reached.
    """
    with make_app(settings) as app:
        replies = app.control.ping(destination=[worker], timeout=timeout, limit=1)
    return any(worker in reply for reply in replies)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 if it answers; else 1, with one line that says why."""
    if len(arguments) != 1:
        print("usage: python docker/healthcheck.py NAME", file=sys.stderr)
        return 1
    worker = f"{arguments[0]}@{socket.gethostname()}"
    try:
        if answers(load_settings(), worker, ANSWER_SECONDS):
            return 0
        print(f"{worker} did not answer within {ANSWER_SECONDS:g} s", file=sys.stderr)
    except (YardError, KombuError, RedisError, OSError) as exc:
        print(f"{worker} cannot be asked: {exc}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
