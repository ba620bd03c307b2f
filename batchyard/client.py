"""The sync client: submit jobs, come back for results."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from batchyard import names, store
from batchyard.errors import JobCancelled, ResultTimeout, UnknownJob
from batchyard.images import check_image
from batchyard.job import Job
from batchyard.result import ErrorInfo, Result
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

POLL_SECONDS = 1.0
"""How often a waiting call looks again although nothing was announced (an announcement may be lost)."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class BatchHandle:
    """What became of `submit_many`: the batch's name, jobs newly accepted, jobs that were known already,
    jobs refused (each was reported to `on_error`)."""

    batch: str
    submitted: int
    duplicates: int
    refused: int


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
        errors: list[Exception] = []
        limit = self.settings.max_prompt_bytes
        prepared = prepare(job if job is not None else fields, self._catalogue(), limit)
        self._push([prepared], lambda _index, _item, exc: errors.append(exc))
        if errors:
            raise errors[0]
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
        submission harmless. A bad job is reported to `on_error(index, item, error)` and the others go on;
        without `on_error` the jobs before it are submitted and its error is raised.
        """
        name, known = batch_name(batch), self._catalogue()
        new = duplicates = refused = 0

        def report(index: int, item: object, exc: Any) -> None:
            nonlocal refused
            refused += 1
            if on_error is None:
                raise exc
            on_error(index, item, exc)

        def prepare_one(index: int, item: object) -> Prepared:
            return prepare(item, known, self.settings.max_prompt_bytes, name, index)

        size = chunk_size or self.settings.chunk_size
        gate = report if on_error is not None else None
        for chunk in chunks(jobs, size, prepare_one, gate):
            count, accepted = self._push(chunk, report)
            new += count
            duplicates += accepted - count
        return BatchHandle(name, new, duplicates, refused)

    def _push(self, chunk: list[Prepared], report: OnError) -> tuple[int, int]:
        """(new, accepted) of a chunk; what is refused is reported and the rest is pushed."""
        hashes = sorted({sha for job in chunk for sha in job.images})
        missing = set(self._run(store.missing_blobs(hashes)))
        chunk = without_missing(chunk, missing, report)
        while chunk:
            reply = self._run(store.submit(chunk, self.settings.result_expires))
            if not reply.conflicts:
                return reply.new, len(chunk)
            chunk = without_conflicts(chunk, reply.conflicts, report)
        return 0, 0

    def attach(self, image: bytes) -> str:
        """Store an image (PNG or JPEG) once under its SHA-256, which is returned for an image part.

        Raises:
            InvalidJob: code `image_corrupt` or `image_too_large`.
        """
        check_image(image, self.settings.max_image_bytes, self.settings.max_image_pixels)
        sha256 = hashlib.sha256(image).hexdigest()
        self._run(store.put_blob(sha256, image, self.settings.result_expires))
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
        limit = None if timeout is None else time.monotonic() + timeout
        found = self._look(job_id)
        if found is not None:
            return found
        with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
            try:
                channel.subscribe(names.result_key(job_id))
                while True:
                    found = self._look(job_id)
                    if found is not None:
                        return found
                    left = POLL_SECONDS if limit is None else min(POLL_SECONDS, limit - time.monotonic())
                    if left <= 0:
                        raise still_running(job_id, timeout)
                    channel.get_message(timeout=left)
            except redis.RedisError as exc:
                raise store.unavailable(exc) from exc

    def _look(self, job_id: str) -> Result | None:
        (document,) = self._run(store.documents([job_id]))
        if document is None:
            raise unknown_job(job_id)
        return store.result_of(job_id, document)

    def results(self, batch: str, *, after: str = "0", timeout: float | None = None) -> "Results":
        """The results of a batch as its jobs complete, each once; ends when all submitted so far are done.

        `after` continues behind the `cursor` of an earlier iteration. `timeout` bounds the wait for the
        next result, in seconds (None: no bound).
        """
        return Results(self, batch, after, timeout)

    # -- cancel -------------------------------------------------------------------------------------

    def cancel(self, *job_ids: str) -> int:
        """Cancel jobs; returns how many had no result yet. Running ones leave at their engine's next step.

        A cancelled job has the state REVOKED; one that has a result keeps it.
        """
        stopped = 0
        for start in range(0, len(job_ids), PAGE):
            page = job_ids[start : start + PAGE]
            stopped += self._run(store.cancel(page, CANCELLED, self.settings.result_expires))
            broadcast_revoke(self.settings, page)
        return stopped

    def cancel_batch(self, batch: str) -> int:
        """Cancel every job of a batch that has no result yet; returns how many."""
        return self.cancel(*self.jobs(batch))


CANCELLED = JobCancelled("the job was cancelled")


def broadcast_revoke(settings: Settings, job_ids: Sequence[str]) -> None:
    """Tell the workers through Celery's own remote control, for the jobs that are running now."""
    from batchyard.app import make_app  # Celery is only needed here; importing it takes longer than the rest

    with make_app(settings) as app:
        app.control.revoke(list(job_ids), terminate=True)


class Results:
    """Iterator over the results of a batch; `cursor` is where a later iteration can go on."""

    def __init__(self, client: Client, batch: str, after: str, timeout: float | None) -> None:
        self._client = client
        self._batch = batch
        self._timeout = timeout
        self.cursor = after
        self._page: list[tuple[str, Result]] = []

    def __iter__(self) -> "Results":
        return self

    def __next__(self) -> Result:
        if not self._page:
            self._page = self._next_page()
        if not self._page:
            raise StopIteration
        self.cursor, result = self._page.pop(0)
        return result

    def _next_page(self) -> list[tuple[str, Result]]:
        run, waited = self._client._run, time.monotonic()
        while True:
            # The counters are read before the stream: once all are done, the stream has all of them.
            status = run(store.batch_status(self._batch))
            if status.total == 0:
                raise unknown_batch(self._batch)
            entries = run(store.completed(self._batch, self.cursor, PAGE))
            if entries:
                return self._fetch(entries)
            if status.done >= status.total:
                return []
            if self._timeout is not None and time.monotonic() - waited > self._timeout:
                raise ResultTimeout(
                    f"no result of batch {self._batch!r} within {self._timeout} s; "
                    f"{status.done} of {status.total} are done",
                    remedy=f"go on later with results(batch, after={self.cursor!r})",
                )
            run(store.await_completed(self._batch, self.cursor, int(POLL_SECONDS * 1000)))

    def _fetch(self, entries: list[tuple[str, str]]) -> list[tuple[str, Result]]:
        documents = self._client._run(store.documents([job_id for _, job_id in entries]))
        page = []
        for (cursor, job_id), document in zip(entries, documents, strict=True):
            result = store.result_of(job_id, document)
            page.append((cursor, result if result is not None else expired_result(job_id)))
        return page


def expired_result(job_id: str) -> Result:
    """What stands in for a result that was in the batch's stream and has expired since."""
    error = ErrorInfo(code="result_expired", message="the result has expired", remedy="fetch results earlier")
    return Result(job_id=job_id, state=State.UNKNOWN, error=error)


def unknown_job(job_id: str) -> UnknownJob:
    """The error for an id that the store does not have."""
    return UnknownJob(
        f"no job {job_id!r}", field="id", remedy="was it submitted to this yard, and has not expired?"
    )


def unknown_batch(batch: str) -> UnknownJob:
    """The error for a batch that the store does not have."""
    return UnknownJob(f"no batch {batch!r}", code="unknown_batch", field="batch", remedy="check its name")


def still_running(job_id: str, timeout: float | None) -> ResultTimeout:
    """The error for a caller that stops waiting."""
    return ResultTimeout(
        f"job {job_id!r} has no result after {timeout} s", remedy="ask again; the job goes on"
    )
