"""What a yard takes now: Redis's keys, memory and connections; memory, threads and descriptors of processes.

Everything as one flat mapping from a name to a number, so that whatever is new shows up by itself.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil
import redis

from batchyard import names

_KINDS = re.compile(
    rf"{re.escape(names.RESULT_KEY_PREFIX)}|batchyard:[a-z-]+(?::index|:mutex)?|_kombu\.binding\."
    rf"|.*(?P<reply>\.reply\.celery\.pidbox)"
)
_STRINGS = {names.RESULT_KEY_PREFIX.rstrip("-"), "batchyard:claim", "batchyard:blob"}
"""Kinds of which there are as many keys as jobs or images: they are not looked into."""
_COUNT = {b"list": "LLEN", b"hash": "HLEN", b"set": "SCARD", b"zset": "ZCARD", b"stream": "XLEN"}
_SCANNED_AT_ONCE = 1000


def kind_of(key: str) -> str:
    """What keys of a kind have in common: the beginning of their names, or a queue without its priority."""
    found = _KINDS.match(key)
    if found is None:
        return key.split(names.PRIORITY_SEPARATOR)[0]
    return found["reply"] or found[0].rstrip(".-")


def redis_footprint(raw: redis.Redis) -> dict[str, float]:
    """`keys KIND`, `elements KIND` (of lists, hashes, sets and streams together), `used memory` in bytes
    (without the buffers of the append-only file) and `connections`."""
    kinds: dict[str, str] = {}
    for page in raw.scan_iter(count=_SCANNED_AT_ONCE):
        key = page.decode("utf-8", "replace")
        kinds[key] = kind_of(key)
    found: dict[str, float] = {f"keys {kind}": count for kind, count in Counter(kinds.values()).items()}
    found |= _elements(raw, {key: kind for key, kind in kinds.items() if kind not in _STRINGS})
    memory = raw.info("memory")
    found["used memory"] = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
    found["connections"] = int(raw.info("clients")["connected_clients"])
    return found


def _elements(raw: redis.Redis, kinds: Mapping[str, str]) -> dict[str, float]:
    types = _pipelined(raw, [("TYPE", key) for key in kinds])
    commands = {key: (_COUNT[kind], key) for key, kind in zip(kinds, types, strict=True) if kind in _COUNT}
    counts = _pipelined(raw, list(commands.values()))
    found: Counter[str] = Counter()
    for key, count in zip(commands, counts, strict=True):
        found[f"elements {kinds[key]}"] += int(count or 0)
    return dict(found)


def _pipelined(raw: redis.Redis, commands: list[tuple[str, str]]) -> list[Any]:
    pipe = raw.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call, unused-ignore]
    return list(pipe.execute())


def process_footprint(processes: Mapping[str, int]) -> dict[str, float]:
    """`memory NAME` (resident bytes), `threads NAME`, `descriptors NAME` of processes by name and id.

    Raises:
        psutil.NoSuchProcess: one has ended.
    """
    found: dict[str, float] = {}
    for name, number in processes.items():
        process = psutil.Process(number)
        with process.oneshot():
            found[f"memory {name}"] = process.memory_info().rss
            found[f"threads {name}"] = process.num_threads()
            found[f"descriptors {name}"] = process.num_fds()
    return found


def engine_of(worker: int) -> int:
    """The process id of a worker's engine."""
    (engine,) = psutil.Process(worker).children()
    return int(engine.pid)
