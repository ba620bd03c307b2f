"""What the janitor asks of Redis: the store's operations that no job asks for.

Like those of `batchyard.store` each is a generator of commands. What Redis must do although its memory is
full begins with a write that takes none: Redis then lets the rest of the script through. Knows no router.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchyard import names
from batchyard.errors import JobExpired
from batchyard.scripts import FINAL
from batchyard.states import State
from batchyard.store import Op, failure_document

GRACE_SECONDS = 2.0
"""For so long after its deadline a job is left to whoever has it."""
EXPIRE_PAGE = 500
"""Jobs that are ended in one call, which stops everybody else while it runs."""
FULL_SECONDS = 5
RATES_SECONDS = 60
"""For how long what the janitor says holds, if no janitor says it again."""

OVERDUE = JobExpired(
    "its deadline had passed",
    field="deadline",
    remedy="give it more time, or submit it with a better priority",
)

HOLD = """
-- key, who asks, milliseconds; returns 1 if the lock is theirs now
local holder = redis.call('GET', ARGV[1])
if holder and holder ~= ARGV[2] then return 0 end
redis.call('DEL', ARGV[1])
redis.call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

RELEASE = """
-- key, who had it
if redis.call('GET', ARGV[1]) == ARGV[2] then redis.call('DEL', ARGV[1]) end
return 1
"""

EXPIRE = (
    FINAL
    + """
-- latest deadline that counts, ttl, n, (job id, document) * n
-- Ends the jobs whose deadline is still no later as REVOKED; those that have a result are only taken off.
-- Returns how many were ended.
local ended = 0
for i = 0, tonumber(ARGV[3]) - 1 do
  local id, document = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  local deadline = redis.call('ZSCORE', 'batchyard:deadlines', id)
  if deadline and tonumber(deadline) <= tonumber(ARGV[1]) then
    redis.call('ZREM', 'batchyard:deadlines', id)
    local key = 'celery-task-meta-' .. id
    local done, previous = final(key)
    if not done then
      local batch = string.match(redis.call('GET', 'batchyard:claim:' .. id) or '', ' (.*)$') or ''
      redis.call('SET', key, document, 'EX', ARGV[2])
      announce(key, document, id, batch, 'REVOKED', ARGV[2], previous)
      ended = ended + 1
    end
  end
end
return ended
"""
)

SAY = """
-- full key, seconds (0: it is not nearly full), rates key, seconds, (model, jobs a second) ...
redis.call('DEL', ARGV[1], ARGV[3])
if ARGV[2] ~= '0' then redis.call('SET', ARGV[1], 1, 'EX', ARGV[2]) end
for i = 5, #ARGV, 2 do redis.call('HSET', ARGV[3], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', ARGV[3], ARGV[4])
return 1
"""

SETTLE = """
-- waiting key, unacked key, how the record of a message of the router's queue ends, n, n keys of that
-- queue, then for each model its name, 1 if its counter is to be put right, n keys of its queue
-- Returns the models that nothing stands behind: no message in their queue, in the router's, nor with one.
local n, quiet, checked, busy = tonumber(ARGV[4]), {}, false, false
local function there(first) return redis.call('EXISTS', unpack(ARGV, first, first + n - 1)) > 0 end
local function router_is_busy()
  if there(5) then return true end
  for _, record in ipairs(redis.call('HVALS', ARGV[2])) do
    if string.sub(record, -#ARGV[3]) == ARGV[3] then return true end
  end
  return false
end
for at = 5 + n, #ARGV, n + 2 do
  if not there(at + 2) then
    if not checked then checked, busy = true, router_is_busy() end
    if busy then return {} end
    if ARGV[at + 1] == '1' then redis.call('HDEL', ARGV[1], ARGV[at]) end
    quiet[#quiet + 1] = ARGV[at]
  end
end
return quiet
"""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the janitor decides by. `at` is Redis's clock (seconds since the epoch); `used` and `limit` are
    bytes of memory (limit 0: none); `full` whether it was said to be nearly full; by model: jobs `done` since
    the beginning, `rates` in jobs a second as last said, jobs `waiting` as they are counted."""

    at: float
    used: int
    limit: int
    full: bool
    done: Mapping[str, int]
    rates: Mapping[str, float]
    waiting: Mapping[str, int]


def hold(owner: str, milliseconds: int) -> Op[bool]:
    """Take the janitor's lock, or hold it for so long from now; False if another has it."""
    (held,) = yield [("EVAL", HOLD, 0, names.JANITOR_KEY, owner, milliseconds)]
    return bool(held)


def release(owner: str) -> Op[None]:
    """Give the janitor's lock back, if it is the owner's."""
    yield [("EVAL", RELEASE, 0, names.JANITOR_KEY, owner)]


def read() -> Op[Readings]:
    """Everything that a round decides by."""
    clock, memory, full, done, rates, waiting = yield [
        ("TIME",),
        ("INFO", "memory"),
        ("EXISTS", names.FULL_KEY),
        ("HGETALL", names.DONE_KEY),
        ("HGETALL", names.RATES_KEY),
        ("HGETALL", names.WAITING_KEY),
    ]
    return Readings(
        at=clock[0] + clock[1] / 1_000_000,
        # the buffers of the append-only file and of replicas do not count against maxmemory
        used=int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0)),
        limit=int(memory["maxmemory"]),
        full=bool(full),
        done={model.decode(): int(count) for model, count in done.items()},
        rates={model.decode(): float(rate) for model, rate in rates.items()},
        waiting={model.decode(): int(count) for model, count in waiting.items()},
    )


def expire_due(now: float, ttl: int) -> Op[tuple[int, int]]:
    """End up to `EXPIRE_PAGE` jobs whose deadline is past; returns how many were looked at, and how many
    ended: the others had a result."""
    latest = now - GRACE_SECONDS
    (due,) = yield [("ZRANGEBYSCORE", names.DEADLINES_KEY, "-inf", latest, "LIMIT", 0, EXPIRE_PAGE)]
    if not due:
        return 0, 0
    words = []
    for job_id in (raw.decode() for raw in due):
        words += [job_id, failure_document(job_id, State.REVOKED, OVERDUE)]
    (ended,) = yield [("EVAL", EXPIRE, 0, latest, ttl, len(due), *words)]
    return len(due), int(ended)


def say(full: bool, rates: Mapping[str, float]) -> Op[None]:
    """Tell whoever submits whether Redis is nearly full, and how many jobs a second each model ends."""
    seconds = FULL_SECONDS if full else 0
    words = [word for model, rate in rates.items() for word in (model, f"{rate:.6f}")]
    yield [("EVAL", SAY, 0, names.FULL_KEY, seconds, names.RATES_KEY, RATES_SECONDS, *words)]


def settle(models: Mapping[str, bool], unacked: str) -> Op[frozenset[str]]:
    """Which of the models have no message behind their counter of waiting jobs; of those that are given as
    True the counter is removed. `unacked` is the hash of the messages that are being worked on."""
    if not models:
        return frozenset()
    route = _lists(names.ROUTE_QUEUE)
    words: list[str | int] = []
    for model, found_before in models.items():
        words += [model, int(found_before), *_lists(names.model_queue(model))]
    ending = f'"{names.ROUTE_QUEUE}"]'
    (quiet,) = yield [("EVAL", SETTLE, 0, names.WAITING_KEY, unacked, ending, len(route), *route, *words)]
    return frozenset(model.decode() for model in quiet)


def _lists(queue: str) -> Sequence[str]:
    """The keys of which at least one is there while the queue has messages."""
    plain = [names.priority_queue(queue, priority) for priority in names.PRIORITY_STEPS]
    return plain + [names.ring_key(queue, priority) for priority in names.PRIORITY_STEPS]
