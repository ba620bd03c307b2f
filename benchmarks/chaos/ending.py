"""What stands in Redis when the work is done, read as it is."""

import re
import time
from collections.abc import Sequence

import redis

from batchyard import names
from batchyard.app import UNACKED
from benchmarks.chaos.documents import Document, read
from benchmarks.chaos.ledger import Record
from benchmarks.chaos.verdict import Ending

PAGE = 500
_WORK = re.compile(
    rf"^({names.ROUTE_QUEUE}|{re.escape(names.MODEL_QUEUE_PREFIX)}[^\x06]+)(\x06\x16\d)?$"
    rf"|^{re.escape(UNACKED)}(:index)?$|^batchyard:(flow|ring|unprocessable|deadlines|dead)(:|$)"
)
"""Keys that hold work: none of them may be there when all is done."""


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
    for raw in client.scan_iter(count=2000):
        key = raw.decode()
        if _WORK.match(key):
            found[key] = f"{client.type(raw).decode()}, {_size(client, raw)} entries"
    return found


def _size(client: redis.Redis, key: bytes) -> int:
    sizes = {b"list": client.llen, b"hash": client.hlen, b"zset": client.zcard, b"set": client.scard}
    size = sizes.get(client.type(key))
    return int(size(key)) if size is not None else 1  # type: ignore[arg-type]


def _documents(client: redis.Redis, ids: Sequence[str]) -> dict[str, Document | None]:
    found: dict[str, Document | None] = {}
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        for job, raw in zip(page, client.mget([names.result_key(job) for job in page]), strict=True):
            found[job] = None if raw is None else read(raw)
    return found


def _stream(client: redis.Redis, batch: str) -> list[tuple[str, str]]:
    entries = client.xrange(names.batch_done_key(batch))
    return [(name.decode(), fields[b"id"].decode()) for name, fields in entries]


def _counters(client: redis.Redis, batch: str) -> dict[str, int]:
    fields = client.hgetall(names.batch_key(batch))
    return {name.decode(): int(value) for name, value in fields.items() if value.isdigit()}
