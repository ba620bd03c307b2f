"""The async client: the same calls as `Client`, awaited."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, TypeVar

import redis
import redis.asyncio

from batchyard import names, store
from batchyard.client import (
    CANCELLED,
    PAGE,
    POLL_SECONDS,
    BatchHandle,
    broadcast_revoke,
    expired_result,
    still_running,
    unknown_batch,
    unknown_job,
)
from batchyard.errors import ResultTimeout, YardError
from batchyard.images import check_image
from batchyard.job import Job
from batchyard.result import Result
from batchyard.settings import Settings, load_settings
from batchyard.states import State
from batchyard.store import BatchStatus, Op
from batchyard.submission import (
    Known,
    OnError,
    Prepared,
    batch_name,
    chunks,
    prepare,
    without_conflicts,
    without_missing,
)

T = TypeVar("T")


class AsyncClient:
    """Talks to the yard's Redis from one event loop. Use as an async context manager, or `aclose()`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._redis = redis.asyncio.Redis.from_url(
            self.settings.url, socket_connect_timeout=5, health_check_interval=30
        )
        self._known: Known | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _run(self, op: Op[T]) -> T:
        return await store.arun(self._redis, op)

    async def _catalogue(self) -> Known:
        if self._known is None or not self._known.tasks:
            self._known = Known.of(await self._run(store.get_catalogue()))
        return self._known

    async def submit(self, job: Job | dict[str, Any] | None = None, /, **fields: Any) -> str:
        """Submit one job; see `Client.submit`."""
        known = await self._catalogue()
        prepared = prepare(job if job is not None else fields, known, self.settings.max_prompt_bytes)
        errors: list[YardError] = []
        await self._push([prepared], lambda _index, _item, exc: errors.append(exc))
        if errors:
            raise errors[0]
        return prepared.id

    async def submit_many(
        self,
        jobs: Iterable[Job | dict[str, Any]],
        *,
        batch: str | None = None,
        chunk_size: int | None = None,
        on_error: OnError | None = None,
    ) -> BatchHandle:
        """Submit any number of jobs as one batch; see `Client.submit_many`."""
        name, known = batch_name(batch), await self._catalogue()
        new = duplicates = refused = 0

        def report(index: int, item: object, exc: YardError) -> None:
            nonlocal refused
            refused += 1
            if on_error is None:
                raise exc
            on_error(index, item, exc)

        def prepare_one(index: int, item: object) -> Prepared:
            return prepare(item, known, self.settings.max_prompt_bytes, name, index)

        size = chunk_size or self.settings.chunk_size
        for chunk in chunks(jobs, size, prepare_one, report if on_error is not None else None):
            count, accepted = await self._push(chunk, report)
            new += count
            duplicates += accepted - count
        return BatchHandle(name, new, duplicates, refused)

    async def _push(self, chunk: list[Prepared], report: OnError) -> tuple[int, int]:
        hashes = sorted({sha for job in chunk for sha in job.images})
        missing = set(await self._run(store.missing_blobs(hashes)))
        chunk = without_missing(chunk, missing, report)
        while chunk:
            reply = await self._run(store.submit(chunk, self.settings.result_expires))
            if not reply.conflicts:
                return reply.new, len(chunk)
            chunk = without_conflicts(chunk, reply.conflicts, report)
        return 0, 0

    async def attach(self, image: bytes) -> str:
        """Store an image once; see `Client.attach`."""
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        await self._run(store.put_blob(sha256, image, self.settings.result_expires))
        return sha256

    async def status(self, job_id: str) -> State:
        """The state of a job; UNKNOWN if there is none of this id."""
        return (await self.statuses([job_id]))[0]

    async def statuses(self, job_ids: list[str]) -> list[State]:
        """The states of many jobs, in one round trip."""
        return await self._run(store.states(job_ids))

    async def batch(self, batch: str) -> BatchStatus:
        """The counters of a batch."""
        return await self._run(store.batch_status(batch))

    async def result(self, job_id: str, timeout: float | None = None) -> Result:
        """The result of a job; see `Client.result`."""
        limit = None if timeout is None else time.monotonic() + timeout
        found = await self._look(job_id)
        if found is not None:
            return found
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            try:
                await channel.subscribe(names.result_key(job_id))
                while True:
                    found = await self._look(job_id)
                    if found is not None:
                        return found
                    left = POLL_SECONDS if limit is None else min(POLL_SECONDS, limit - time.monotonic())
                    if left <= 0:
                        raise still_running(job_id, timeout)
                    await channel.get_message(timeout=left)
            except redis.RedisError as exc:
                raise store.unavailable(exc) from exc

    async def _look(self, job_id: str) -> Result | None:
        (document,) = await self._run(store.documents([job_id]))
        if document is None:
            raise unknown_job(job_id)
        return store.result_of(job_id, document)

    async def results(
        self,
        batch: str,
        *,
        after: str = "0",
        timeout: float | None = None,
    ) -> AsyncIterator[Result]:
        """The results of a batch as its jobs complete; see `Client.results`."""
        cursor, waited = after, time.monotonic()
        while True:
            status = await self._run(store.batch_status(batch))
            if status.total == 0:
                raise unknown_batch(batch)
            entries = await self._run(store.completed(batch, cursor, PAGE))
            documents = await self._run(store.documents([job_id for _, job_id in entries]))
            for (at, job_id), document in zip(entries, documents, strict=True):
                cursor = at
                yield store.result_of(job_id, document) or expired_result(job_id)
            if entries:
                waited = time.monotonic()
                continue
            if status.done >= status.total:
                return
            if timeout is not None and time.monotonic() - waited > timeout:
                raise ResultTimeout(
                    f"no result of batch {batch!r} within {timeout} s",
                    remedy=f"go on later with results(batch, after={cursor!r})",
                )
            await self._run(store.await_completed(batch, cursor, int(POLL_SECONDS * 1000)))

    async def cancel(self, *job_ids: str) -> int:
        """Cancel jobs; see `Client.cancel`."""
        stopped = 0
        for start in range(0, len(job_ids), PAGE):
            page = job_ids[start : start + PAGE]
            stopped += await self._run(store.cancel(page, CANCELLED, self.settings.result_expires))
            await asyncio.to_thread(broadcast_revoke, self.settings, page)
        return stopped
