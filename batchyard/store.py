"""The store: the only code that knows what stands under which Redis key.

Each operation is a generator that yields commands to run as one pipeline and returns its answer, so that
the sync and the async client share it (`run`, `arun`). Knows no Celery.
"""

import json
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
import redis.asyncio
from pydantic import ValidationError
from redis import exceptions as errors

from batchyard import names
from batchyard.errors import JobCancelled, JobExpired, YardBusy, YardError, YardUnavailable
from batchyard.jsonvalue import json_fault, printable
from batchyard.queue_scripts import LENGTH
from batchyard.result import ErrorInfo, Result
from batchyard.route import Route
from batchyard.scripts import CANCEL, PUBLISH, STORE, SUBMIT
from batchyard.states import State
from batchyard.submission import Prepared
from batchyard.wire import dumps, task_message

Commands = Sequence[tuple[Any, ...]]
LONGEST_RETRY_AFTER_S = 60.0
UNREADABLE = "result_unreadable"
"""The code of a stored result that is none of ours."""
FULL_RETRY_AFTER_S = 5.0
T = TypeVar("T")
Op = Generator[Commands, list[Any], T]


@dataclass(frozen=True, slots=True)
class Congestion:
    """Why a chunk was not taken now: `kind` is tenant, model or memory, `name` whose `limit` it would exceed,
    `count` how many jobs there are. `retry_after` in seconds, a guess.
    """

    kind: str
    name: str
    limit: int
    count: int
    retry_after: float


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of one chunk: how many jobs were new, or the positions of those whose id has another body,
    or why there is no room (then nothing was queued)."""

    new: int
    conflicts: tuple[int, ...] = ()
    congestion: Congestion | None = None


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Counters of a batch; `done` counts every final state."""

    batch: str
    total: int
    success: int
    failure: int
    revoked: int

    @property
    def done(self) -> int:
        """Jobs with a result."""
        return self.success + self.failure + self.revoked


@dataclass(frozen=True, slots=True)
class Publication:
    """One routed job, ready to be published: its id, queue, priority, flow (tenant and batch), message and
    new state document."""

    job_id: str
    queue: str
    priority: int
    tenant: str
    batch: str
    message: str
    state: str


def submit(chunk: Sequence[Prepared], ttl: int) -> Op[Submitted]:
    """Claim and queue one chunk of jobs of the same tenant and batch for the router: all of it, or none."""
    now = time.time()
    first = chunk[0]
    priority = min(job.priority for job in chunk)
    message = task_message(
        names.ROUTE_TASK,
        f"route-{first.id}-{len(chunk)}",
        f'{{"jobs":[{",".join(job.body for job in chunk)}],"submitted":{now}}}',
        names.ROUTE_QUEUE,
        priority,
        ignore_result=True,
    )
    words = [
        word
        for job in chunk
        for word in (job.id, job.digest, job.expects, "" if job.deadline is None else repr(job.deadline))
    ]
    (reply,) = yield [
        ("EVAL", SUBMIT, 0, ttl, now, first.tenant, first.batch, priority, message, len(chunk), *words)
    ]
    kind = int(reply[0])
    if kind == 0:
        return Submitted(0, tuple(int(position) for position in reply[1]))
    if kind == 2:
        return Submitted(0, congestion=_congestion([_text(word) for word in reply[1:]]))
    return Submitted(int(reply[1]))


def _congestion(words: Sequence[str]) -> Congestion:
    kind, name, limit, count, rate = words
    if kind == "memory":
        return Congestion(kind, name, 0, 0, LONGEST_RETRY_AFTER_S / 2)
    # when a twentieth of the limit has been done: room for some chunks
    seconds = int(limit) / 20 / float(rate) if float(rate) > 0 else LONGEST_RETRY_AFTER_S
    return Congestion(kind, name, int(limit), int(count), min(LONGEST_RETRY_AFTER_S, max(1.0, seconds)))


def publish(publications: Sequence[Publication], ttl: int) -> Op[int]:
    """Hand routed jobs to their models' queues; jobs no longer waiting for a route are skipped."""
    words = [
        word
        for p in publications
        for word in (p.job_id, p.queue, p.priority, p.tenant, p.batch, p.message, p.state)
    ]
    (reply,) = yield [("EVAL", PUBLISH, 0, ttl, len(publications), *words)]
    return int(reply)


def finish(results: Iterable[tuple[str, str, State, str]], ttl: int) -> Op[int]:
    """Store documents of (job id, batch, state, document) unless a final one stands; the first final one
    stays."""
    replies = yield [
        ("EVAL", STORE, 0, ttl, job_id, batch, str(state), document, int(state.final), "")
        for job_id, batch, state, document in results
    ]
    return sum(int(reply) for reply in replies)


def cancel(job_ids: Sequence[str], error: YardError, ttl: int) -> Op[int]:
    """End jobs that are known and have no result as REVOKED; returns how many."""
    if not job_ids:
        return 0
    words = [word for id_ in job_ids for word in (id_, failure_document(id_, State.REVOKED, error))]
    (reply,) = yield [("EVAL", CANCEL, 0, ttl, len(job_ids), *words)]
    return int(reply)


def state_document(job_id: str, state: State, result: object = None, attempt: int = 1) -> str:
    """Celery's task-meta document; `status` stands first, which our Lua relies on."""
    meta = {"status": str(state), "result": result, "traceback": None, "children": [], "task_id": job_id}
    return dumps(meta if attempt == 1 else meta | {"attempt": attempt}).replace(":", ": ", 1)


def failure_document(job_id: str, state: State, error: YardError, attempt: int = 1) -> str:
    """The task-meta document of a job that ended with `error` (a YardError) outside Celery's tracer."""
    reason = {
        "exc_type": type(error).__name__,
        "exc_message": list(error.args),
        "exc_module": type(error).__module__,
    }
    return state_document(job_id, state, reason, attempt)


def states(job_ids: Sequence[str]) -> Op[list[State]]:
    """The state of each job."""
    return [result_state(doc) for doc in (yield from documents(job_ids))]


def documents(job_ids: Sequence[str]) -> Op[list[dict[str, Any] | None]]:
    """The task-meta document of each job, None where there is none."""
    if not job_ids:
        return []
    (reply,) = yield [("MGET", *(names.result_key(job_id) for job_id in job_ids))]
    return [None if raw is None else json.loads(raw) for raw in reply]


def batch_status(batch: str) -> Op[BatchStatus]:
    """Counters of a batch; all zero if it is unknown."""
    (reply,) = yield [("HMGET", names.batch_key(batch), "total", "SUCCESS", "FAILURE", "REVOKED")]
    return BatchStatus(batch, *(int(value or 0) for value in reply))


def batch_jobs(batch: str, start: int, count: int) -> Op[list[str]]:
    """`count` job ids of a batch from position `start`, in order of submission."""
    (reply,) = yield [("LRANGE", names.batch_jobs_key(batch), start, start + count - 1)]
    return [_text(job_id) for job_id in reply]


def completed(batch: str, after: str, count: int) -> Op[list[tuple[str, str]]]:
    """(cursor, job id) of jobs of a batch that finished after the cursor `after` ("0" for the first)."""
    start = "-" if after == "0" else f"({after}"
    (entries,) = yield [("XRANGE", names.batch_done_key(batch), start, "+", "COUNT", count)]
    return [(_text(cursor), _text(next(iter(fields.values())))) for cursor, fields in entries]


def await_completed(batch: str, after: str, block_ms: int) -> Op[None]:
    """Return when a job of the batch has finished after the cursor, at the latest after `block_ms`."""
    yield [("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", names.batch_done_key(batch), after)]


def put_blob(tenant: str, sha256: str, data: bytes, ttl: int) -> Op[None]:
    """Keep a tenant's attachment under its hash; the same content again only renews its time."""
    yield [("SET", names.blob_key(tenant, sha256), data, "EX", ttl)]


def get_blob(tenant: str, sha256: str) -> Op[bytes | None]:
    """A tenant's attachment by its hash, None where there is none (any more)."""
    (data,) = yield [("GET", names.blob_key(tenant, sha256))]
    return data  # type: ignore[no-any-return]


def missing_blobs(tenant: str, hashes: Sequence[str]) -> Op[list[str]]:
    """Which attachments of a tenant are not in the store."""
    if not hashes:
        return []
    replies = yield [("EXISTS", names.blob_key(tenant, sha256)) for sha256 in hashes]
    return [sha256 for sha256, there in zip(hashes, replies, strict=True) if not there]


def put_catalogue(document: str) -> Op[None]:
    """Publish the catalogue's JSON, so that clients can check tasks and models at submit."""
    yield [("SET", names.CATALOGUE_KEY, document)]


def get_catalogue() -> Op[dict[str, Any] | None]:
    """The catalogue that the yard runs with, or None before the first router has started."""
    (reply,) = yield [("GET", names.CATALOGUE_KEY)]
    return None if reply is None else dict(json.loads(reply))


def queue_lengths(queues: Sequence[str]) -> Op[dict[str, int]]:
    """Messages waiting in each queue, all priorities and flows together."""
    if not queues:
        return {}
    replies = yield [
        ("EVAL", LENGTH, 0, names.PRIORITY_SEPARATOR, names.PRIORITY_STEPS[-1], queue) for queue in queues
    ]
    return {queue: int(reply) for queue, reply in zip(queues, replies, strict=True)}


def result_state(document: dict[str, Any] | None) -> State:
    """The state in a task-meta document; a state that is not ours counts as STARTED."""
    if document is None:
        return State.UNKNOWN
    status = document.get("status") if isinstance(document, dict) else None
    return State(status) if isinstance(status, str) and status in set(State) else State.STARTED


def result_of(job_id: str, document: dict[str, Any] | None) -> Result | None:
    """The result in a task-meta document, or None if the job is not finished.

    One that is none of ours, or that could not be written out again, is a failure of its job alone.
    """
    state = result_state(document)
    if document is None or not state.final:
        return None
    value = document.get("result")
    if state is not State.SUCCESS:
        return Result(job_id=job_id, state=state, error=_error_info(state, value), **_way_of(document))
    fault = json_fault(value)
    if fault is not None or not isinstance(value, dict):
        return _unreadable(job_id, "it is no object" if fault is None else fault.message)
    try:
        return Result.model_validate({**value, "job_id": job_id, "state": state, "error": None})
    except ValidationError as exc:
        first = exc.errors()[0]
        return _unreadable(job_id, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _way_of(document: dict[str, Any]) -> dict[str, Any]:
    """What the document of a job without an answer says of its attempts and its route."""
    found: dict[str, Any] = {}
    attempt = document.get("attempt")
    if isinstance(attempt, int) and attempt > 0:
        found["attempt"] = attempt
    with suppress(ValidationError):
        found["route"] = Route.model_validate(document.get("route"))
    return found


def _unreadable(job_id: str, why: str) -> Result:
    error = ErrorInfo(
        code=UNREADABLE,
        message=printable(f"the stored result cannot be read: {why}"),
        remedy="are clients and workers of one version, and does nobody else write into this Redis?",
    )
    return Result(job_id=job_id, state=State.FAILURE, error=error)


def _error_info(state: State, value: Any) -> ErrorInfo:
    exc = value if isinstance(value, dict) else {}
    args = exc.get("exc_message") or []
    args = list(args) if isinstance(args, list | tuple) else [str(args)]
    kind = printable(exc.get("exc_type", ""), 80)
    if str(exc.get("exc_module", "")).startswith("batchyard") and len(args) == 5:
        words = dict(zip(("message", "code", "field", "remedy", "retryable"), args, strict=True))
        with suppress(ValidationError):  # then it is shown as any other
            if json_fault(words) is None:
                return ErrorInfo.model_validate({"kind": kind, **words})
    text = printable(" ".join(map(str, args)))
    if kind == "TaskRevokedError" or state is State.REVOKED:
        if text == "expired":
            return ErrorInfo(kind="JobExpired", code=JobExpired.code, message="its deadline had passed")
        return ErrorInfo(kind="JobCancelled", code=JobCancelled.code, message="the job was cancelled")
    if kind in ("TimeLimitExceeded", "SoftTimeLimitExceeded"):
        return ErrorInfo(code="time_limit_exceeded", message=f"ran longer than its time_limit ({text} s)")
    return ErrorInfo(code="job_failed", message=f"{kind}: {text}")


def run(client: redis.Redis, op: Op[T]) -> T:
    """Run an operation on a sync client.

    Raises:
        YardUnavailable: Redis cannot be reached, or refuses (see `unavailable` for the codes).
    """
    try:
        commands = next(op)
        while True:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call, unused-ignore]
            commands = op.send(_replies(pipe.execute(raise_on_error=False)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except redis.RedisError as exc:
        raise unavailable(exc) from exc


async def arun(client: "redis.asyncio.Redis", op: Op[T]) -> T:
    """Run an operation on an async client; the same errors as `run`."""
    try:
        commands = next(op)
        while True:
            pipe = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call, unused-ignore]
            commands = op.send(_replies(await pipe.execute(raise_on_error=False)))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except redis.RedisError as exc:
        raise unavailable(exc) from exc


def _replies(replies: Sequence[Any]) -> list[Any]:
    """The replies of a pipeline; raises the first error among them, without redis-py's copy of the command
    (which is our whole script) in its text."""
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            raise reply
    return list(replies)


_REFUSED = (
    errors.AuthenticationError,
    errors.AuthorizationError,
    errors.AuthenticationWrongNumberOfArgsError,
    errors.NoPermissionError,
)
_PASSING = ("BUSY ", "MISCONF ", "NOREPLICAS ")
"""How errors begin that Redis itself gets over, or its operator."""


def unavailable(exc: Exception) -> YardUnavailable:
    """Our error for what redis-py raised. Codes: `yard_unavailable` (not reached), `yard_full` (out of
    memory), `yard_refused` (password or rights), `yard_untrusted` (its TLS certificate), `store_error` (Redis
    cannot do what we ask)."""
    text = str(exc)
    if isinstance(exc, _REFUSED):
        return _unavailable(text, "yard_refused", "correct user and password in the URL", retryable=False)
    if isinstance(exc, errors.OutOfMemoryError) or "OOM command not allowed" in text:
        return YardBusy(
            f"Redis: {text}",
            code="yard_full",
            field="BATCHYARD_REDIS_URL",
            remedy="let jobs finish and results expire, or raise Redis's maxmemory; then submit the same "
            "ids again",
            retry_after=FULL_RETRY_AFTER_S,
        )
    if isinstance(exc, errors.ReadOnlyError | errors.TryAgainError) or text.startswith(_PASSING):
        return _unavailable(
            text, YardUnavailable.code, "see Redis's log; the same ids can be submitted again"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        remedy = "name the authority that signed Redis's certificate in the URL's ssl_ca_certs"
        return _unavailable(text, "yard_untrusted", remedy, retryable=False)
    if isinstance(exc, errors.ConnectionError | errors.TimeoutError):
        remedy = "start Redis or correct the URL; submitting again under the same ids is safe"
        return _unavailable(text, YardUnavailable.code, remedy)
    remedy = "does this Redis hold something else under our keys, or is it older than 6.2?"
    return _unavailable(text, "store_error", remedy, retryable=False)


def _unavailable(text: str, code: str, remedy: str, retryable: bool = True) -> YardUnavailable:
    return YardUnavailable(
        f"Redis: {text}", code=code, field="BATCHYARD_REDIS_URL", remedy=remedy, retryable=retryable
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
