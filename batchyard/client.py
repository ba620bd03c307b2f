"""The sync client: submit jobs, come back for results."""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import redis

from batchyard import names, operations, store
from batchyard.connections import connect
from batchyard.errors import JobCancelled, YardBusy
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

CANCELLED = JobCancelled("the job was cancelled")


class Client:
    """Talks to the yard's Redis; safe to share between threads. Use as a context manager, or `close()`.

    It works for the tenant in its settings: ids and batches are that tenant's own, whatever others call
    theirs. One of the tenant `default` may also submit for others, and sees theirs as `tenant~name`.

    Every call raises `YardUnavailable` if Redis cannot be reached; submitting again is then safe as long
    as the ids are the same.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._tenant = Tenant(self.settings.tenant)
        self._redis = connect(self.settings)
        self._known: Known | None = None
        self._key = self.settings.signer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _run(self, op: Op[T]) -> T:
        return store.run(self._redis, op)

    def _catalogue(self) -> Known:
        if self._known is None or not self._known.tasks:
            self._known = Known.of(self._run(store.get_catalogue()))
        return self._known

    # -- in -----------------------------------------------------------------------------------------

    def submit(
        self, job: Job | dict[str, Any] | None = None, /, *, wait: float | None = 0.0, **fields: Any
    ) -> str:
        """Submit one job, given as a Job, a mapping, or its fields; returns its id.

        Where the yard takes no more jobs for now, it waits up to `wait` seconds for room (None: no bound).

        Raises:
            InvalidJob: naming the field; nothing was accepted.
            IdConflict: the id was used before with another body.
            YardBusy: there is no room; `retry_after` says when to try again.
        """
        limit = self.settings.max_prompt_bytes
        given = job if job is not None else fields
        prepared = prepare(given, self._catalogue(), limit, own=self._tenant.name, key=self._key)
        for pushed in self._push([prepared], Patience(wait), strict=True):
            for refusal in pushed.refused:
                raise refusal.error
        return self._tenant.short(prepared.id)

    def submit_many(
        self,
        jobs: Iterable[Job | dict[str, Any]],
        *,
        batch: str | None = None,
        chunk_size: int | None = None,
        on_error: OnError | None = None,
        wait: float | None = None,
    ) -> BatchHandle:
        """Submit any number of jobs from any iterable, as one batch of one tenant, in bounded memory.

        `batch` names it (new name if None). Jobs without an id get a new one; give ids to make a repeated
        submission harmless: the same id with the same body is a duplicate, also under another batch, and
        stays in the batch it was first submitted in. `chunk_size` (1 to 10,000) is how many jobs go into one
        message. A bad job is reported to `on_error(index, item, error)` and the others go on; without
        `on_error` the jobs before it are submitted and its error is raised.

        Where the yard takes no more jobs for now, this waits for room and goes on. `wait` bounds that, in
        seconds in which no job is accepted (None: no bound, 0: not waited at all).

        Raises:
            InvalidJob, IdConflict: for the first bad job, without `on_error`.
            InvalidConfig: `chunk_size`.
            YardBusy: no room within `wait` seconds; what was accepted before stays.
        """
        name = batch_name(batch, self._tenant.name)
        size = self.settings.chunk_size if chunk_size is None else chunk_size
        limit = self.settings.max_prompt_bytes
        intake = Intake(jobs, name, self._catalogue(), limit, size, on_error, key=self._key)
        patience = Patience(wait)
        for chunk in intake.chunks():
            for pushed in self._push(chunk, patience, strict=intake.strict):
                intake.add(pushed)
        return replace(intake.handle(), batch=self._tenant.short(name))

    def _push(self, chunk: Sequence[Prepared], patience: Patience, *, strict: bool) -> Iterator[Pushed]:
        """Push a chunk, in as many parts as it takes for the yard to have room."""
        while chunk:
            try:
                pushed = self._run(operations.push(chunk, self.settings.result_expires, stop_at_first=strict))
            except YardBusy as exc:  # Redis is full to the last byte
                pushed = Pushed(0, 0, left=tuple(chunk), busy=exc)
            yield pushed
            chunk = pushed.left
            time.sleep(patience.pause(pushed))

    def attach(self, image: bytes, tenant: str | None = None) -> str:
        """Store an image (PNG or JPEG) once under its SHA-256, which is returned for an image part.

        Raises:
            InvalidJob: code `image_corrupt` or `image_too_large`.
        """
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        self._run(store.put_blob(tenant or self._tenant.name, sha256, image, self.settings.result_expires))
        return sha256

    # -- out ----------------------------------------------------------------------------------------

    def status(self, job_id: str) -> State:
        """The state of a job; UNKNOWN if there is none of this id."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: list[str]) -> list[State]:
        """The states of many jobs, in one round trip."""
        return self._run(store.states([self._tenant.full(job_id) for job_id in job_ids]))

    def batch(self, batch: str) -> BatchStatus:
        """The counters of a batch."""
        return self._run(operations.batch_status(self._tenant, batch))

    def jobs(self, batch: str) -> Iterator[str]:
        """The ids of a batch's jobs, in order of submission."""
        for page in self._pages(batch):
            yield from page

    def _pages(self, batch: str) -> Iterator[list[str]]:
        at = 0
        while page := self._run(operations.batch_jobs(self._tenant, batch, at)):
            yield page
            at += len(page)

    def result(self, job_id: str, timeout: float | None = None) -> Result:
        """The result of a job; waits up to `timeout` seconds (None: until it is there, 0: not at all).

        A failed job is a result, too: `result.ok`, `result.error`, `result.value()`.

        Raises:
            ResultTimeout: the job goes on; ask again.
            UnknownJob: no such job, or its result has expired.
        """
        started = time.monotonic()
        found = self._run(operations.look(self._tenant, job_id))
        if found is not None:
            return found
        with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            try:
                channel.subscribe(names.result_key(self._tenant.full(job_id)))
                while True:
                    found = self._run(operations.look(self._tenant, job_id))
                    if found is not None:
                        return found
                    channel.get_message(timeout=operations.next_wait(job_id, started, timeout))
            except redis.RedisError as exc:
                raise store.unavailable(exc) from exc

    def results(self, batch: str, *, after: str = "0", timeout: float | None = None) -> "Results":
        """The results of a batch as its jobs complete, each once; ends when all submitted so far are done.

        `after` continues behind the `cursor` of an earlier iteration. `timeout` bounds the wait for the
        next result, in seconds (None: no bound).
        """
        return Results(self, batch, after, timeout)

    # -- cancel -------------------------------------------------------------------------------------

    def cancel(self, *job_ids: str) -> int:
        """Cancel jobs; returns how many had no result yet. Running ones leave their engine within a second.

        A cancelled job has the state REVOKED; one that has a result keeps it.
        """
        return self._cancel(job_ids[at : at + PAGE] for at in range(0, len(job_ids), PAGE))

    def cancel_batch(self, batch: str) -> int:
        """Cancel every job of a batch that has no result yet; returns how many."""
        return self._cancel(self._pages(batch))

    def _cancel(self, pages: Iterable[Sequence[str]]) -> int:
        stopped = 0
        for page in pages:
            ids = [self._tenant.full(job_id) for job_id in page]
            stopped += self._run(store.cancel(ids, CANCELLED, self.settings.result_expires))
        return stopped


class Results:
    """Iterator over the results of a batch; `cursor` is where a later iteration can go on."""

    def __init__(self, client: Client, batch: str, after: str, timeout: float | None) -> None:
        self._client = client
        self._batch = batch
        self._timeout = timeout
        self._page: deque[tuple[str, Result]] = deque()
        self.cursor = after

    def __iter__(self) -> "Results":
        return self

    def __next__(self) -> Result:
        if not self._page:
            tenant, batch = self._client._tenant, self._batch
            found = operations.next_results(tenant, batch, self.cursor, self._timeout)
            self._page.extend(self._client._run(found))
        if not self._page:
            raise StopIteration
        self.cursor, result = self._page.popleft()
        return result
