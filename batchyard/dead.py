"""Dead letters: messages that are not tried again, kept with the reason until an operator decides.

    it kills its engine, workers or router ──bury──────► entry, and FAILURE (`poison`) ──┬─revive─► queue
    none of ours, or not to be read ─────────raw_burial► entry (`unprocessable`) ────────┴─drop───► gone

The newest `KEPT` stand in the hash `batchyard:dead` by their ids, with `batchyard:dead:index` by time. The
operations are the store's kind: generators of Redis commands, for `store.run`. Here is also what consumers
note of a message that they run by itself, so that the next one knows whom the last was lost with.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from batchyard import names
from batchyard.errors import JobFailed, YardError
from batchyard.scripts import FINAL
from batchyard.states import State
from batchyard.store import Op, failure_document, state_document
from batchyard.wire import dumps

KEPT = 10_000
RAW_BYTES = 65_536
"""Of a message that is none of ours, what is kept."""
ALONE_SECONDS = 86_400
AT_ONCE = 200
"""Letters in one reply: a message may be a megabyte."""

_KEEP = """
local function keep(id, entry, message, time, kept)
  local index = 'batchyard:dead:index'
  entry = string.sub(entry, 1, -2) .. ',"message":' .. cjson.encode(message) .. '}'
  redis.call('HSET', 'batchyard:dead', id, entry)
  redis.call('ZADD', index, time, id)
  local surplus = redis.call('ZCARD', index) - tonumber(kept)
  if surplus > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', index, 0, surplus - 1)) do
      redis.call('HDEL', 'batchyard:dead', oldest)
      redis.call('ZREM', index, oldest)
    end
  end
end
"""

BURY = (
    FINAL
    + _KEEP
    + """
-- ttl, job id, batch, document, time, letters kept, entry but for its message, message or '', tags ...
-- Ends a job that has no result as FAILURE, and keeps its message: the one given, or the one that is recorded
-- as unacknowledged under the first of the tags that is there. Without a message, which is another's by then,
-- nothing is done. Returns 1 if it was buried.
local key = 'celery-task-meta-' .. ARGV[2]
redis.call('EXPIRE', key, ARGV[1])
local done, previous = final(key)
if done then return 0 end
local message = ARGV[8]
for i = 9, #ARGV do
  if message ~= '' then break end
  local record = redis.call('HGET', 'batchyard:unacked', ARGV[i])
  message = record and string.match(record, '^%[(.*), "[^"]*", "[^"]*"%]$') or ''
end
if message == '' then return 0 end
redis.call('SET', key, ARGV[4], 'EX', ARGV[1])
announce(key, ARGV[4], ARGV[2], ARGV[3], 'FAILURE', ARGV[1], previous)
keep(ARGV[2], ARGV[7], message, ARGV[5], ARGV[6])
return 1
"""
)

BURY_RAW = (
    _KEEP
    + """
-- entry id, time, letters kept, entry but for its message, message
redis.call('ZREM', 'batchyard:dead:index', '')
keep(ARGV[1], ARGV[4], ARGV[5], ARGV[2], ARGV[3])
"""
)

REVIVE = (
    FINAL
    + """
-- ttl, job id, batch, entry id, state document, kombu's list, queue, message, deadline or ''
-- Opens a failed job again and puts its message back. Returns 'ok', 'gone' without the letter, or the state
-- that stands in the way.
local key = 'celery-task-meta-' .. ARGV[2]
local status = status_of(redis.call('GET', key)) or 'PENDING'
if status ~= 'FAILURE' then return status end
if redis.call('HDEL', 'batchyard:dead', ARGV[4]) == 0 then return 'gone' end
redis.call('ZREM', 'batchyard:dead:index', ARGV[4])
redis.call('DEL', 'batchyard:alone:' .. ARGV[2])
redis.call('SET', key, ARGV[5], 'EX', ARGV[1])
local claim = 'batchyard:claim:' .. ARGV[2]
if redis.call('EXPIRE', claim, ARGV[1]) == 1 then
  redis.call('INCR', 'batchyard:open:' .. tenant_of(ARGV[2]))
end
local counters = 'batchyard:batch:' .. ARGV[3]
if ARGV[3] ~= '' and redis.call('EXISTS', counters) == 1 then
  redis.call('HINCRBY', counters, 'FAILURE', -1)
  redis.call('EXPIRE', counters, ARGV[1])
end
if ARGV[9] ~= '' then redis.call('ZADD', 'batchyard:deadlines', ARGV[9], ARGV[2]) end
redis.call('LPUSH', ARGV[6], ARGV[8])
local bell = 'batchyard:bell:' .. ARGV[7]
redis.call('LPUSH', bell, 1)
redis.call('LTRIM', bell, 0, 63)
redis.call('EXPIRE', bell, 60)
return 'ok'
"""
)


class Letter(BaseModel):
    """A dead letter. `id` is the job's, or a random one for a message of no job; `exit` is how the process
    ended, where that is known (`signal SIGABRT`, `exit code 3`); `when` in seconds since the epoch; `message`
    as it was on the queue."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    kind: Literal["poison", "unprocessable"]
    job_id: str | None
    batch: str = ""
    queue: str
    reason: str
    exit: str | None = None
    worker: str = ""
    when: float = Field(default_factory=time.time)
    attempts: int = 1
    message: str = ""

    def head(self) -> str:
        """Its JSON but for the message, which Redis adds."""
        return dumps(self.model_dump(exclude={"message"}))


def poison(reason: str) -> JobFailed:
    """The error of a job that is a dead letter."""
    return JobFailed(
        reason,
        code="poison",
        remedy="its message is kept: `batchyard dead show ID`; other jobs are not affected",
    )


def bury(letter: Letter, error: YardError, tags: Sequence[str], ttl: int, message: str = "") -> Op[bool]:
    """End the letter's job with `error` and keep its message: this one, or what is recorded under one of the
    delivery tags. Whether it was: a job that has ended, or whose message another consumer has, is left alone.
    """
    job_id = letter.job_id or letter.id
    document = failure_document(job_id, State.FAILURE, error, letter.attempts)
    (reply,) = yield [
        (
            "EVAL", BURY, 0, ttl, job_id, letter.batch, document, letter.when, KEPT, letter.head(),
            message, *tags,
        )
    ]  # fmt: skip
    return int(reply) == 1


def raw_burial(queue: str, message: bytes, reason: str) -> tuple[Any, ...]:
    """The command that keeps a message that is none of ours; of a long one the beginning. Its id is random:
    what a stranger's message calls itself could be the name of another letter."""
    letter = Letter(id=uuid.uuid4().hex, kind="unprocessable", job_id=None, queue=queue, reason=reason)
    # Redis's JSON encoder takes bytes as they are: they must be UTF-8, and escaped what is none
    text = message[:RAW_BYTES].decode("utf-8", "backslashreplace")
    return "EVAL", BURY_RAW, 0, letter.id, letter.when, KEPT, letter.head(), text


def run_alone(job_id: str) -> Op[int]:
    """Note that a worker runs the job alone in its engine, because workers were lost with it; returns how
    often one has."""
    key = names.alone_key(job_id)
    count, _ = yield [("INCR", key), ("EXPIRE", key, ALONE_SECONDS)]
    return int(count)


def ran_alone(job_id: str) -> Op[None]:
    """Forget that: the worker is there, and the job has been answered or goes back."""
    yield [("DEL", names.alone_key(job_id))]


def route_alone(chunk: str, position: int, times: int) -> Op[None]:
    """Note that a router routes the job at a chunk's `position` by itself, because routers were lost with the
    chunk; `times` with this one."""
    key = names.alone_key(f"chunk|{chunk}")
    yield [("HSET", key, position, times), ("EXPIRE", key, ALONE_SECONDS)]


def routed_alone(chunk: str) -> Op[tuple[int, int]]:
    """The job of a chunk that was routed by itself last: its position and how often; (0, 0) if none was."""
    (noted,) = yield [("HGETALL", names.alone_key(f"chunk|{chunk}"))]
    pairs = noted.items() if isinstance(noted, dict) else zip(noted[::2], noted[1::2], strict=True)
    return max(((int(position), int(times)) for position, times in pairs), default=(0, 0))


def all_routed(chunk: str) -> Op[None]:
    """Forget what was noted of a chunk."""
    yield [("DEL", names.alone_key(f"chunk|{chunk}"))]


def letters() -> Op[list[Letter]]:
    """All dead letters, the newest first."""
    (ids,) = yield [("ZREVRANGE", names.DEAD_INDEX_KEY, 0, -1)]
    found: list[Letter] = []
    for start in range(0, len(ids), AT_ONCE):
        (entries,) = yield [("HMGET", names.DEAD_KEY, *ids[start : start + AT_ONCE])]
        found += _readable(entries)
    return found


def letter(letter_id: str) -> Op[Letter | None]:
    """One dead letter, or None if there is none of that id."""
    (entry,) = yield [("HGET", names.DEAD_KEY, letter_id)]
    return next(_readable([entry]), None)


def _readable(entries: Iterable[Any]) -> Iterator[Letter]:
    for entry in entries:
        if entry is not None:
            yield Letter.model_validate_json(entry)


def drop(letter_ids: Sequence[str]) -> Op[int]:
    """Forget dead letters; the results of their jobs stay. Returns how many there were."""
    if not letter_ids:
        return 0
    count, _ = yield [
        ("HDEL", names.DEAD_KEY, *letter_ids), ("ZREM", names.DEAD_INDEX_KEY, *letter_ids)
    ]  # fmt: skip
    return int(count)


def revive(letter: Letter, ttl: int) -> Op[str | None]:
    """Open the letter's job again and put its message back into its queue, as if it had never been delivered.
    Returns None, or why that cannot be done."""
    if letter.job_id is None:
        return "it is no job of the yard: it can only be dropped"
    message, priority, deadline = _anew(letter.message)
    state = State.QUEUED if letter.queue == names.ROUTE_QUEUE else State.ROUTED
    place = names.priority_queue(letter.queue, priority)
    (reply,) = yield [
        (
            "EVAL", REVIVE, 0, ttl, letter.job_id, letter.batch, letter.id,
            state_document(letter.job_id, state), place, letter.queue, message,
            "" if deadline is None else repr(deadline),
        )
    ]  # fmt: skip
    answer = reply.decode() if isinstance(reply, bytes) else str(reply)
    if answer == "ok":
        return None
    if answer == "gone":
        return "somebody else has just retried or dropped it"
    if answer == State.UNKNOWN:
        return "its result has expired: submit it again"
    return f"its job is {answer}, not FAILURE: drop the letter"


def _anew(message: str) -> tuple[str, int, float | None]:
    """The message as it is put back, its priority, and its job's deadline."""
    envelope = json.loads(message)
    envelope["headers"] |= {"retries": 0, "lost": 0, "redelivered": False, "eta": None}
    properties = envelope["properties"]
    properties["delivery_tag"] = os.urandom(16).hex()
    properties["delivery_info"].pop("redelivered", None)
    arguments = json.loads(envelope["body"])[1]
    job = arguments["job"] if "job" in arguments else arguments["jobs"][0]
    return dumps(envelope), int(properties.get("priority") or 0), job.get("deadline")
