"""What the clients do in more than one step, once for both: push a chunk, look for results.

Each is an operation of the store (a generator of commands, see `batchyard.store`), so that the sync and
the async client only differ in how they run it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from batchyard import store
from batchyard.errors import IdConflict, InvalidJob, ResultTimeout, UnknownJob, YardBusy, YardError, shown
from batchyard.result import ErrorInfo, Result
from batchyard.states import State
from batchyard.store import BatchStatus, Congestion, Op
from batchyard.submission import Prepared, Pushed, Refusal
from batchyard.tenant import Tenant

PAGE = 500
"""Ids that one round trip asks for."""

POLL_SECONDS = 1.0
"""How often a waiting call looks again although nothing was announced (an announcement may be lost)."""


# -- in ---------------------------------------------------------------------------------------------


def push(chunk: Sequence[Prepared], ttl: int, *, stop_at_first: bool) -> Op[Pushed]:
    """Queue the jobs of a chunk, but those whose image is missing or whose id has another body.

    With `stop_at_first` only what stands before the first such job is queued, and it alone is refused. Where
    there is no room for all, the first of them are queued as far as there is.
    """
    hashes = sorted({sha for job in chunk for sha in job.images})
    missing = set((yield from store.missing_blobs(chunk[0].tenant, hashes)))
    faults: dict[int, YardError] = {}
    for position, job in enumerate(chunk):
        gone = [sha for sha in job.images if sha in missing]
        if gone:
            faults[position] = image_missing(gone[0])
    waiting, refused = _without(chunk, faults, stop_at_first)
    part: Sequence[Prepared] = waiting
    busy: YardBusy | None = None
    new = 0
    while part:
        reply = yield from store.submit(part, ttl)
        if reply.congestion is not None:
            busy = no_room(reply.congestion)
            part = _fitting(part, reply.congestion)
        elif reply.conflicts:
            faults = {position: id_conflict(part[position].id) for position in reply.conflicts}
            waiting, more = _without(waiting, faults, stop_at_first)
            refused = more if stop_at_first else refused + more
            part = waiting
        else:
            new = reply.new
            break
    duplicates = len(part) - new
    if len(part) == len(waiting):
        return Pushed(new, duplicates, tuple(refused))
    if stop_at_first:  # what is at fault behind them is found when its turn comes
        return Pushed(new, duplicates, left=tuple(chunk[len(part) :]), busy=busy)
    return Pushed(new, duplicates, tuple(refused), tuple(waiting[len(part) :]), busy)


def _fitting(part: Sequence[Prepared], found: Congestion) -> Sequence[Prepared]:
    """As many of the first jobs as there is room for; fewer than all."""
    room = found.limit - found.count
    for position, job in enumerate(part):
        if found.kind != "model" or job.expects == found.name:
            room -= 1
        if room < 0:
            return part[:position]
    return part[:-1]


def _without(
    chunk: Sequence[Prepared], faults: Mapping[int, YardError], stop_at_first: bool
) -> tuple[list[Prepared], list[Refusal]]:
    """The jobs of a chunk to go on with, and those refused, by their positions' faults."""
    if stop_at_first and faults:
        first = min(faults)
        return list(chunk[:first]), [Refusal(chunk[first], faults[first])]
    left = [job for position, job in enumerate(chunk) if position not in faults]
    return left, [Refusal(chunk[position], faults[position]) for position in sorted(faults)]


def no_room(found: Congestion) -> YardBusy:
    """The error for jobs that the yard takes no more of now."""
    again = f"submit the same ids again in {found.retry_after:.0f} s"
    if found.kind == "memory":
        return YardBusy(
            "Redis's memory is nearly full",
            code="yard_full",
            field="BATCHYARD_REDIS_URL",
            remedy=f"{again}: jobs end and results expire meanwhile; or raise Redis's maxmemory",
            retry_after=found.retry_after,
        )
    if found.kind == "tenant":
        message = f"the tenant {found.name} has {found.count:,} jobs open, its limit is {found.limit:,}"
        key = f"max_open of {found.name} in tenant_list"
    else:
        message = f"{found.count:,} jobs wait for the model {found.name}, its limit is {found.limit:,}"
        key = f"max_queued of {found.name}"
    return YardBusy(
        message, field=found.kind, remedy=f"{again}, or raise {key} in configs/models.yaml",
        retry_after=found.retry_after,
    )  # fmt: skip


def id_conflict(job_id: str) -> IdConflict:
    """The error for an id that was used with another body."""
    return IdConflict(
        f"{shown(job_id)} was submitted before with a different body",
        field="id",
        remedy="use a new id, or submit the same body again",
    )


def image_missing(sha256: str) -> InvalidJob:
    """The error for an image that was never attached."""
    return InvalidJob(
        f"no image {sha256[:12]}… in the yard",
        code="image_missing",
        field="messages",
        remedy="attach its bytes first: sha256 = client.attach(data)",
    )


# -- out --------------------------------------------------------------------------------------------


def look(tenant: Tenant, job_id: str) -> Op[Result | None]:
    """The result of a job, None if it has none yet.

    Raises:
        UnknownJob: no such job, or its result has expired.
    """
    (document,) = yield from store.documents([tenant.full(job_id)])
    if document is None:
        raise unknown_job(job_id)
    return store.result_of(tenant.short(job_id), document)


def next_wait(job_id: str, started: float, timeout: float | None) -> float:
    """For how many seconds a caller that has waited since `started` (monotonic) may wait before it looks
    again.

    Raises:
        ResultTimeout: it has waited for `timeout` seconds.
    """
    if timeout is None:
        return POLL_SECONDS
    left = started + timeout - time.monotonic()
    if left <= 0:
        raise ResultTimeout(
            f"job {shown(job_id)} has no result after {timeout} s", remedy="ask again; the job goes on"
        )
    return min(POLL_SECONDS, left)


def batch_status(tenant: Tenant, batch: str) -> Op[BatchStatus]:
    """Counters of a batch; all zero if it is unknown."""
    status = yield from store.batch_status(tenant.full(batch))
    return replace(status, batch=tenant.short(batch))


def batch_jobs(tenant: Tenant, batch: str, start: int) -> Op[list[str]]:
    """A page of the ids of a batch from position `start`, in order of submission."""
    ids = yield from store.batch_jobs(tenant.full(batch), start, PAGE)
    return [tenant.short(job_id) for job_id in ids]


def next_results(
    tenant: Tenant, batch: str, after: str, timeout: float | None
) -> Op[list[tuple[str, Result]]]:
    """The next results of a batch behind the cursor `after`, each with its own cursor; waits until there is
    one. Empty when every job submitted so far has been seen.

    Raises:
        UnknownJob: code `unknown_batch`.
        ResultTimeout: none came within `timeout` seconds (None: no bound, 0: not waited at all).
    """
    started = time.monotonic()
    while True:
        # The counters are read before the stream: once all are done, the stream has all of them.
        status = yield from batch_status(tenant, batch)
        if status.total == 0:
            raise unknown_batch(batch)
        entries = yield from store.completed(tenant.full(batch), after, PAGE)
        if entries:
            documents = yield from store.documents([job_id for _, job_id in entries])
            named = [(cursor, tenant.short(job_id)) for cursor, job_id in entries]
            return [
                (cursor, store.result_of(job_id, document) or expired_result(job_id))
                for (cursor, job_id), document in zip(named, documents, strict=True)
            ]
        if status.done >= status.total:
            return []
        wait = POLL_SECONDS
        if timeout is not None:
            left = started + timeout - time.monotonic()
            if left <= 0:
                raise _no_more(status, after, timeout)
            wait = min(wait, left)
        yield from store.await_completed(tenant.full(batch), after, max(1, int(wait * 1000)))


def _no_more(status: BatchStatus, cursor: str, timeout: float) -> ResultTimeout:
    return ResultTimeout(
        f"no result of batch {shown(status.batch)} within {timeout} s; "
        f"{status.done} of {status.total} are done",
        remedy=f"go on later with results(batch, after={cursor!r})",
    )


def expired_result(job_id: str) -> Result:
    """What stands in for a result that was in the batch's stream and has expired since."""
    error = ErrorInfo(code="result_expired", message="the result has expired", remedy="fetch results earlier")
    return Result(job_id=job_id, state=State.UNKNOWN, error=error)


def unknown_job(job_id: str) -> UnknownJob:
    """The error for an id that the store does not have."""
    return UnknownJob(
        f"no job {shown(job_id)}: never submitted to this yard, or its state has expired",
        field="id",
        remedy="check the id; raise BATCHYARD_RESULT_EXPIRES to keep results longer",
    )


def unknown_batch(batch: str) -> UnknownJob:
    """The error for a batch that the store does not have."""
    return UnknownJob(
        f"no batch {shown(batch)}: no job was accepted in it, or it has expired",
        code="unknown_batch",
        field="batch",
        remedy="check its name",
    )
