"""The watcher: reads, all the time, what any client could read, and writes it into the ledger.

A thread with connections of its own. When Redis is away it tries again; the completion streams then go on
where they were, the announcements that were missed are missed.
"""

import time
from threading import Event, Thread
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard import names
from benchmarks.chaos.documents import read
from benchmarks.chaos.ledger import Ledger

POLL_SECONDS = 0.1
PAGE = 500


def impatient(url: str) -> redis.Redis:
    """A client that gives up after a second and tries nothing twice."""
    return redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))


class Watcher:
    """Watches the yard on `url` from `start` to `stop`; `outages` is how often it had to connect again."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._client = impatient(url)
        self._cursors: dict[str, str] = {}
        self._stop = Event()
        self._thread = Thread(target=self._run, name="watcher", daemon=True)
        self.outages = 0
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(10)
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._watch()
                except redis.RedisError:
                    self.outages += 1
                    self._stop.wait(POLL_SECONDS)
        except BaseException as exc:
            self.failure = exc
            raise

    def _watch(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            channel.psubscribe(names.RESULT_KEY_PREFIX + "*")
            while not self._stop.is_set():
                began = time.monotonic()
                self._hear(channel)
                self._look()
                self._follow()
                self._stop.wait(max(0.0, began + POLL_SECONDS - time.monotonic()))

    def _hear(self, channel: "redis.client.PubSub") -> None:
        """Take the announcements that have come."""
        while (message := channel.get_message(timeout=0)) is not None:
            document = read(message["data"])
            if document.final:
                self._ledger.announce(
                    message["channel"].decode().removeprefix(names.RESULT_KEY_PREFIX), document
                )

    def _look(self) -> None:
        """Read the document of every open job."""
        ids = self._ledger.open_ids()
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            raws: Any = self._client.mget([names.result_key(job) for job in page])
            now = time.monotonic()
            for job, raw in zip(page, raws, strict=True):
                if raw is not None:
                    self._ledger.see(job, read(raw), now)

    def _follow(self) -> None:
        """Read what the completion streams have got since."""
        streams: Any = {
            names.batch_done_key(batch): self._cursors.get(batch, "0") for batch in self._ledger.batches()
        }
        if not streams:
            return
        replies: Any = self._client.xread(streams, count=PAGE)
        for key, entries in replies:
            batch = key.decode().removeprefix(names.batch_done_key(""))
            self._cursors[batch] = entries[-1][0].decode()
            self._ledger.read_entries(
                batch, [(name.decode(), fields[b"id"].decode()) for name, fields in entries]
            )
