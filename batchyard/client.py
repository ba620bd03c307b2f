"""The sync client: submit jobs, come back for results."""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from batchyard import names, operations, store
from batchyard.errors import JobCancelled
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

CANCELLED = JobCancelled("the job was cancelled")


class Client:
    """Talks to the yard's Redis; safe to share between threads. Use as a context manager, or `close()`.

    Every call raises `YardUnavailable` if Redis cannot be reached; submitting again is then safe as long
    as the ids are the same.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._redis: redis.Redis = redis.Redis.from_url(
            self.settings.url,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
            socket_connect_timeout=5,
            health_check_interval=30,
        )
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

    def submit(self, job: Job | dict[str, Any] | None = None, /, **fields: Any) -> str:
        """Submit one job, given as a Job, a mapping, or its fields; returns its id.

        Raises:
            InvalidJob: naming the field; nothing was accepted.
            IdConflict: the id was used before with another body.
        """
        limit = self.settings.max_prompt_bytes
        prepared = prepare(job if job is not None else fields, self._catalogue(), limit, key=self._key)
        pushed = self._run(operations.push([prepared], self.settings.result_expires, stop_at_first=True))
        for refusal in pushed.refused:
            raise refusal.error
        return prepared.id

    def submit_many(
        self,
        jobs: Iterable[Job | dict[str, Any]],
        *,
        batch: str | None = None,
        chunk_size: int | None = None,
        on_error: OnError | None = None,
    ) -> BatchHandle:
        """Submit any number of jobs from any iterable, as one batch, in bounded memory.

        `batch` names it (new name if None). Jobs without an id get a new one; give ids to make a repeated
        submission harmless: the same id with the same body is a duplicate, also under another batch, and
        stays in the batch it was first submitted in. `chunk_size` (1 to 10,000) is how many jobs go into one
        message. A bad job is reported to `on_error(index, item, error)` and the others go on; without
        `on_error` the jobs before it are submitted and its error is raised.

        Raises:
            InvalidJob, IdConflict: for the first bad job, without `on_error`.
            InvalidConfig: `chunk_size`.
        """
        name, size = batch_name(batch), self.settings.chunk_size if chunk_size is None else chunk_size
        limit, ttl = self.settings.max_prompt_bytes, self.settings.result_expires
        intake = Intake(jobs, name, self._catalogue(), limit, size, on_error, self._key)
        for chunk in intake.chunks():
            intake.add(self._run(operations.push(chunk, ttl, stop_at_first=intake.strict)))
        return intake.handle()

    def attach(self, image: bytes, tenant: str = DEFAULT_TENANT) -> str:
        """Store an image (PNG or JPEG) once under its SHA-256, which is returned for an image part.

        Raises:
            InvalidJob: code `image_corrupt` or `image_too_large`.
        """
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        self._run(store.put_blob(tenant, sha256, image, self.settings.result_expires))
        return sha256

    # -- out ----------------------------------------------------------------------------------------

    def status(self, job_id: str) -> State:
        """The state of a job; UNKNOWN if there is none of this id."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: list[str]) -> list[State]:
        """The states of many jobs, in one round trip."""
        return self._run(store.states(job_ids))

    def batch(self, batch: str) -> BatchStatus:
        """The counters of a batch."""
        return self._run(store.batch_status(batch))

    def jobs(self, batch: str) -> Iterator[str]:
        """The ids of a batch's jobs, in order of submission."""
        at = 0
        while page := self._run(store.batch_jobs(batch, at, PAGE)):
            yield from page
            at += len(page)

    def result(self, job_id: str, timeout: float | None = None) -> Result:
        """The result of a job; waits up to `timeout` seconds (None: until it is there, 0: not at all).

        A failed job is a result, too: `result.ok`, `result.error`, `result.value()`.

        Raises:
            ResultTimeout: the job goes on; ask again.
            UnknownJob: no such job, or its result has expired.
        """
        started = time.monotonic()
        found = self._run(operations.look(job_id))
        if found is not None:
            return found
        with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            try:
                channel.subscribe(names.result_key(job_id))
                while True:
                    found = self._run(operations.look(job_id))
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
        stopped = 0
        for start in range(0, len(job_ids), PAGE):
            page = job_ids[start : start + PAGE]
            stopped += self._run(store.cancel(page, CANCELLED, self.settings.result_expires))
        return stopped

    def cancel_batch(self, batch: str) -> int:
        """Cancel every job of a batch that has no result yet; returns how many."""
        return self.cancel(*self.jobs(batch))


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
            self._page.extend(
                self._client._run(operations.next_results(self._batch, self.cursor, self._timeout))
            )
        if not self._page:
            raise StopIteration
        self.cursor, result = self._page.popleft()
        return result
