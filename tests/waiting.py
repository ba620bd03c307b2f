"""What waits in a queue: kombu's lists and our flows, as the tests look at them."""

import json
from collections.abc import Iterable
from typing import Any

import redis

from batchyard import names


def messages(raw: redis.Redis, queue: str, priorities: Iterable[int] = names.PRIORITY_STEPS) -> list[Any]:
    """The messages of a queue as objects; of each flow the first to come first."""
    found = []
    for priority in priorities:
        lists = [names.priority_queue(queue, priority)]
        for tenant in texts(raw, names.ring_key(queue, priority)):
            batches = texts(raw, names.ring_key(queue, priority, tenant))
            lists += [names.flow_key(queue, priority, tenant, batch) for batch in batches]
        found += [json.loads(text) for name in lists for text in texts(raw, name)]
    return found


def texts(raw: redis.Redis, name: str) -> list[str]:
    """What stands in a list, the next to be popped first."""
    found = raw.lrange(name, 0, -1)
    return [text.decode() if isinstance(text, bytes) else text for text in reversed(found)]


def chunk_jobs(message: Any) -> list[Any]:
    """The bodies of the jobs in a message of the route queue."""
    jobs: list[Any] = json.loads(message["body"])[1]["jobs"]
    return jobs


def dead_messages(raw: redis.Redis, queue: str) -> list[str]:
    """The dead letters of a queue that are no messages of ours, in the order in which they were found."""
    ids = raw.zrange(names.DEAD_INDEX_KEY, 0, -1)
    letters = [json.loads(raw.hget(names.DEAD_KEY, one) or "{}") for one in ids]
    found = [one for one in letters if one["queue"] == queue and one["kind"] == "unprocessable"]
    return [one["message"] for one in sorted(found, key=lambda one: one["when"])]
