"""Chunks that routers have in hand, and those that a killed one left behind.

Reads the record of unacknowledged messages. It does not say whose a message is: a chunk that was there when a
router was killed and still is half a second later was the dead one's, as the living take a fraction of that.
"""

import json
from collections.abc import Mapping
from typing import Any

import redis

from batchyard.names import ROUTE_TASK, UNACKED_KEY

LOOK_AGAIN_SECONDS = 0.5


def chunks_in(unacked: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The job ids of each chunk among unacknowledged messages, by delivery tag."""
    found = {}
    for tag, raw in unacked.items():
        if ROUTE_TASK.encode() in raw:
            message = json.loads(raw)[0]
            found[tag.decode()] = [job["id"] for job in json.loads(message["body"])[1]["jobs"]]
    return found


class Orphans:
    """Looks after the chunks of killed routers. `jobs` are those that they left: by whom, killed when."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._pending: list[tuple[float, str, dict[str, list[str]]]] = []
        self.jobs: dict[str, tuple[str, float]] = {}

    def chunks(self) -> dict[str, list[str]]:
        """The chunks that routers have now; none if Redis does not answer."""
        try:
            unacked: Any = self._client.hgetall(UNACKED_KEY)
        except redis.RedisError:
            return {}
        return chunks_in(unacked)

    def killed(self, router: str, at: float) -> None:
        """A router has just been killed, at `at` on the monotonic clock."""
        self._pending.append((at, router, self.chunks()))

    def tend(self, now: float) -> None:
        """Look again, where it is time to."""
        due = [item for item in self._pending if now >= item[0] + LOOK_AGAIN_SECONDS]
        if not due:
            return
        self._pending = [item for item in self._pending if item not in due]
        there = self.chunks()
        for at, router, chunks in due:
            for tag in chunks.keys() & there.keys():
                self.jobs |= dict.fromkeys(chunks[tag], (router, at))
