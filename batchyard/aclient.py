"""The async client: the same calls as `Client`, awaited."""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import redis

from batchyard import names, operations, store
from batchyard.client import CANCELLED
from batchyard.connections import connect_async
from batchyard.errors import YardBusy
from batchyard.images import check_image
from batchyard.job import Job
from batchyard.operations import PAGE
from batchyard.patience import Patience
from batchyard.result import Result
from batchyard.settings import Settings, load_settings
from batchyard.states import State
from batchyard.store import BatchStatus, Op
from batchyard.submission import (
    BatchHandle,
    Intake,
    Known,
    OnError,
    Prepared,
    Pushed,
    batch_name,
    prepare,
)
from batchyard.tenant import Tenant

T = TypeVar("T")


class AsyncClient:
    """Talks to the yard's Redis from one event loop. Use as an async context manager, or `aclose()`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._tenant = Tenant(self.settings.tenant)
        self._redis = connect_async(self.settings)
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

    async def submit(
        self, job: Job | dict[str, Any] | None = None, /, *, wait: float | None = 0.0, **fields: Any
    ) -> str:
        """Submit one job; see `Client.submit`."""
        known, limit = await self._catalogue(), self.settings.max_prompt_bytes
        given = job if job is not None else fields
        prepared = prepare(given, known, limit, own=self._tenant.name, key=self._key)
        async for pushed in self._push([prepared], Patience(wait), strict=True):
            for refusal in pushed.refused:
                raise refusal.error
        return self._tenant.short(prepared.id)

    async def submit_many(
        self,
        jobs: Iterable[Job | dict[str, Any]],
        *,
        batch: str | None = None,
        chunk_size: int | None = None,
        on_error: OnError | None = None,
        wait: float | None = None,
    ) -> BatchHandle:
        """Submit any number of jobs as one batch; see `Client.submit_many`."""
        name = batch_name(batch, self._tenant.name)
        size = self.settings.chunk_size if chunk_size is None else chunk_size
        known, limit = await self._catalogue(), self.settings.max_prompt_bytes
        intake = Intake(jobs, name, known, limit, size, on_error, key=self._key)
        patience = Patience(wait)
        for chunk in intake.chunks():
            async for pushed in self._push(chunk, patience, strict=intake.strict):
                intake.add(pushed)
        return replace(intake.handle(), batch=self._tenant.short(name))

    async def _push(
        self, chunk: Sequence[Prepared], patience: Patience, *, strict: bool
    ) -> AsyncIterator[Pushed]:
        """Push a chunk, in as many parts as it takes for the yard to have room."""
        ttl = self.settings.result_expires
        while chunk:
            try:
                pushed = await self._run(operations.push(chunk, ttl, stop_at_first=strict))
            except YardBusy as exc:  # Redis is full to the last byte
                pushed = Pushed(0, 0, left=tuple(chunk), busy=exc)
            yield pushed
            chunk = pushed.left
            await asyncio.sleep(patience.pause(pushed))

    async def attach(self, image: bytes, tenant: str | None = None) -> str:
        """Store an image once; see `Client.attach`."""
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        await self._run(
            store.put_blob(tenant or self._tenant.name, sha256, image, self.settings.result_expires)
        )
        return sha256

    async def status(self, job_id: str) -> State:
        """The state of a job; UNKNOWN if there is none of this id."""
        return (await self.statuses([job_id]))[0]

    async def statuses(self, job_ids: list[str]) -> list[State]:
        """The states of many jobs, in one round trip."""
        return await self._run(store.states([self._tenant.full(job_id) for job_id in job_ids]))

    async def batch(self, batch: str) -> BatchStatus:
        """The counters of a batch."""
        return await self._run(operations.batch_status(self._tenant, batch))

    async def jobs(self, batch: str) -> AsyncIterator[str]:
        """The ids of a batch's jobs, in order of submission."""
        async for page in self._pages(batch):
            for job_id in page:
                yield job_id

    async def _pages(self, batch: str) -> AsyncIterator[list[str]]:
        at = 0
        while page := await self._run(operations.batch_jobs(self._tenant, batch, at)):
            yield page
            at += len(page)

    async def result(self, job_id: str, timeout: float | None = None) -> Result:
        """The result of a job; see `Client.result`."""
        started = time.monotonic()
        found = await self._run(operations.look(self._tenant, job_id))
        if found is not None:
            return found
        async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
            try:
                await channel.subscribe(names.result_key(self._tenant.full(job_id)))
                while True:
                    found = await self._run(operations.look(self._tenant, job_id))
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
        return await self._cancel(_in_pages(job_ids))

    async def cancel_batch(self, batch: str) -> int:
        """Cancel every job of a batch that has no result yet; returns how many."""
        return await self._cancel(self._pages(batch))

    async def _cancel(self, pages: AsyncIterator[Sequence[str]]) -> int:
        stopped = 0
        async for page in pages:
            ids = [self._tenant.full(job_id) for job_id in page]
            stopped += await self._run(store.cancel(ids, CANCELLED, self.settings.result_expires))
        return stopped


async def _in_pages(job_ids: Sequence[str]) -> AsyncIterator[Sequence[str]]:
    for at in range(0, len(job_ids), PAGE):
        yield job_ids[at : at + PAGE]


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
            tenant, batch = self._client._tenant, self._batch
            found = operations.next_results(tenant, batch, self.cursor, self._timeout)
            self._page.extend(await self._client._run(found))
        if not self._page:
            raise StopAsyncIteration
        self.cursor, result = self._page.popleft()
        return result
