"""The async client: the same calls as `Client`, awaited."""

import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from batchyard import names, operations, store
from batchyard.client import CANCELLED
from batchyard.images import check_image
from batchyard.job import Job
from batchyard.names import DEFAULT_TENANT
from batchyard.operations import PAGE
from batchyard.result import Result
from batchyard.settings import Settings, load_settings
from batchyard.states import State
from batchyard.store import BatchStatus, Op
from batchyard.submission import BatchHandle, Intake, Known, OnError, batch_name, prepare

T = TypeVar("T")


class AsyncClient:
    """Talks to the yard's Redis from one event loop. Use as an async context manager, or `aclose()`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._redis = redis.asyncio.Redis.from_url(
            self.settings.url,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
            socket_connect_timeout=5,
            health_check_interval=30,
        )
        self._known: Known | None = None
        self._key = self.settings.signer()

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
        prepared = prepare(
            job if job is not None else fields, known, self.settings.max_prompt_bytes, key=self._key
        )
        ttl = self.settings.result_expires
        pushed = await self._run(operations.push([prepared], ttl, stop_at_first=True))
        for refusal in pushed.refused:
            raise refusal.error
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
        name, size = batch_name(batch), self.settings.chunk_size if chunk_size is None else chunk_size
        limit, ttl = self.settings.max_prompt_bytes, self.settings.result_expires
        intake = Intake(jobs, name, await self._catalogue(), limit, size, on_error, self._key)
        for chunk in intake.chunks():
            intake.add(await self._run(operations.push(chunk, ttl, stop_at_first=intake.strict)))
        return intake.handle()

    async def attach(self, image: bytes, tenant: str = DEFAULT_TENANT) -> str:
        """Store an image once; see `Client.attach`."""
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        await self._run(store.put_blob(tenant, sha256, image, self.settings.result_expires))
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

    async def jobs(self, batch: str) -> AsyncIterator[str]:
        """The ids of a batch's jobs, in order of submission."""
        at = 0
        while page := await self._run(store.batch_jobs(batch, at, PAGE)):
            for job_id in page:
                yield job_id
            at += len(page)

    async def result(self, job_id: str, timeout: float | None = None) -> Result:
        """The result of a job; see `Client.result`."""
        started = time.monotonic()
        found = await self._run(operations.look(job_id))
        if found is not None:
            return found
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            try:
                await channel.subscribe(names.result_key(job_id))
                while True:
                    found = await self._run(operations.look(job_id))
                    if found is not None:
                        return found
                    await channel.get_message(timeout=operations.next_wait(job_id, started, timeout))
            except redis.RedisError as exc:
                raise store.unavailable(exc) from exc

    def results(self, batch: str, *, after: str = "0", timeout: float | None = None) -> "AsyncResults":
        """The results of a batch as its jobs complete; see `Client.results`."""
        return AsyncResults(self, batch, after, timeout)

    async def cancel(self, *job_ids: str) -> int:
        """Cancel jobs; see `Client.cancel`."""
        stopped = 0
        for start in range(0, len(job_ids), PAGE):
            page = job_ids[start : start + PAGE]
            stopped += await self._run(store.cancel(page, CANCELLED, self.settings.result_expires))
        return stopped

    async def cancel_batch(self, batch: str) -> int:
        """Cancel every job of a batch that has no result yet; returns how many."""
        return await self.cancel(*[job_id async for job_id in self.jobs(batch)])


class AsyncResults:
    """Async iterator over the results of a batch; `cursor` is where a later iteration can go on."""

    def __init__(self, client: AsyncClient, batch: str, after: str, timeout: float | None) -> None:
        self._client = client
        self._batch = batch
        self._timeout = timeout
        self._page: deque[tuple[str, Result]] = deque()
        self.cursor = after

    def __aiter__(self) -> "AsyncResults":
        return self

    async def __anext__(self) -> Result:
        if not self._page:
            found = operations.next_results(self._batch, self.cursor, self._timeout)
            self._page.extend(await self._client._run(found))
        if not self._page:
            raise StopAsyncIteration
        self.cursor, result = self._page.popleft()
        return result
