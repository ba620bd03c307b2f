"""What stands in Redis when the work is done, read as it is."""

import re
import time
from collections.abc import Sequence
from typing import Any

import redis

from batchyard import names
from batchyard.names import UNACKED_KEY
from benchmarks.chaos.documents import Document, read
from benchmarks.chaos.ledger import Record
from benchmarks.chaos.verdict import Ending

PAGE = 500
_WORK = re.compile(
    rf"^({names.ROUTE_QUEUE}|{re.escape(names.MODEL_QUEUE_PREFIX)}[^\x06]+)(\x06\x16\d)?$"
    rf"|^{re.escape(UNACKED_KEY)}(:index)?$|^batchyard:(flow|ring|unprocessable|deadlines|dead)([:|]|$)"
)
"""Keys that hold work: none of them may be there when all is done."""
_COUNT = re.compile(r"^batchyard:(waiting|open:.+)$")
"""Keys that count open work: all of them must say 0 then."""


def read_ending(client: redis.Redis, records: Sequence[Record], patience: float) -> Ending:
    """The ending; waits for up to `patience` seconds until no work is left: acknowledgements follow results.

    Raises:
        redis.RedisError: it cannot be read.
    """
    limit = time.monotonic() + patience
    while (left := left_over(client)) and time.monotonic() < limit:
        time.sleep(0.2)
    batches = sorted({record.piece.batch for record in records})
    return Ending(
        documents=_documents(client, [record.piece.id for record in records]),
        streams={batch: _stream(client, batch) for batch in batches},
        counters={batch: _counters(client, batch) for batch in batches},
        left=left,
    )


def left_over(client: redis.Redis) -> dict[str, str]:
    """Keys with work in them, and what they hold."""
    found = {}
    keys: Any = client.scan_iter(count=2000)
    for raw in keys:
        key = raw.decode()
        if _WORK.match(key):
            kind: Any = client.type(raw)
            found[key] = f"{kind.decode()}, {_size(client, raw, kind)} entries"
        elif _COUNT.match(key) and (counts := _not_zero(client, raw)):
            found[key] = str(counts)
    return found


def _not_zero(client: redis.Redis, key: bytes) -> dict[str, int]:
    """What a counter, or a hash of them, says that is not 0."""
    kind: Any = client.type(key)
    values: Any = client.hgetall(key) if kind == b"hash" else {b"": client.get(key)}
    return {name.decode(): int(value) for name, value in values.items() if int(value or 0)}


def _size(client: redis.Redis, key: bytes, kind: bytes) -> int:
    sizes: dict[bytes, Any] = {b"list": client.llen, b"hash": client.hlen, b"zset": client.zcard}
    return int(sizes[kind](key)) if kind in sizes else 1


def _documents(client: redis.Redis, ids: Sequence[str]) -> dict[str, Document | None]:
    found: dict[str, Document | None] = {}
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        raws: Any = client.mget([names.result_key(job) for job in page])
        for job, raw in zip(page, raws, strict=True):
            found[job] = None if raw is None else read(raw)
    return found


def _stream(client: redis.Redis, batch: str) -> list[tuple[str, str]]:
    entries: Any = client.xrange(names.batch_done_key(batch))
    return [(name.decode(), fields[b"id"].decode()) for name, fields in entries]


def _counters(client: redis.Redis, batch: str) -> dict[str, int]:
    fields: Any = client.hgetall(names.batch_key(batch))
    return {name.decode(): int(value) for name, value in fields.items() if value.isdigit()}
