"""The stream of finals: what Redis holds of the results that are not on record yet.

`batchyard:finals` has an entry for each final state stored while `batchyard:auditing` exists: `id`, `batch`,
`state`, and the `document` of a job that failed, for it may be opened again. Auditors read it as a consumer
group and take an entry off it once it is on record. `batchyard:auditing` is a hash: `since`, and when each
auditor was heard of last (before Redis 7.2 the group does not know), in ms since the epoch.

Operations are generators, see `batchyard.store`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batchyard import names
from batchyard.audit.record import Entry
from batchyard.store import Op

GROUP = "auditors"

OWN = "0"
"""Read from here: what this consumer was given and has not recorded."""
NEW = ">"
"""Read from here: what no consumer was given yet."""

_SET_UP = """
-- keys: auditing, finals; args: group, consumer
-- From now on finals are noted. Entries that came before the group did are its as well. The first write takes
-- no memory, so that a Redis that is full, which needs this the most, does not refuse it.
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSETNX', KEYS[1], 'since', now)
redis.call('HSET', KEYS[1], 'auditor:' .. ARGV[2], now)
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], '0', 'MKSTREAM')
if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP') then return made end
return 1
"""

_DONE = """
-- key: finals; args: group, entry ids
-- Takes entries that are on record off the stream.
local ids = {unpack(ARGV, 2)}
redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
return redis.call('XDEL', KEYS[1], unpack(ids))
"""

_HEARD = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local function heard(key)
  local fields, silent = redis.call('HGETALL', key), {}
  for i = 1, #fields, 2 do
    local name = string.match(fields[i], '^auditor:(.*)$')
    if name then silent[name] = now - tonumber(fields[i + 1]) end
  end
  return silent
end
"""

_FORGET = (
    _HEARD
    + """
-- keys: auditing, finals; args: group, milliseconds
-- Takes auditors off the group that have not been heard of for so long and hold nothing.
local gone = 0
for name, silent in pairs(heard(KEYS[1])) do
  if silent > tonumber(ARGV[2]) and #redis.call('XPENDING', KEYS[2], ARGV[1], '-', '+', 1, name) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[1], name)
    redis.call('HDEL', KEYS[1], 'auditor:' .. name)
    gone = gone + 1
  end
end
return gone
"""
)

_CONDITION = (
    _HEARD
    + """
-- keys: auditing, finals; args: milliseconds
-- {1 if finals are noted, entries, age of the oldest in ms, auditors heard of within so many ms}
local alive = 0
for _, silent in pairs(heard(KEYS[1])) do
  if silent <= tonumber(ARGV[1]) then alive = alive + 1 end
end
local age, first = 0, redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
if first then age = now - tonumber(string.match(first[1], '^%d+')) end
return {redis.call('EXISTS', KEYS[1]), redis.call('XLEN', KEYS[2]), age, alive}
"""
)

_SWITCH_OFF = """
-- keys: auditing, finals; args: 1 to discard what is not on record
-- Finals are no longer noted. Returns the entries not on record; then, unless discarded, nothing was changed.
local waiting = redis.call('XLEN', KEYS[2])
if waiting == 0 or ARGV[1] == '1' then redis.call('DEL', KEYS[1], KEYS[2]) end
return waiting
"""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the audit stands: whether finals are noted, how many are not on record yet, how old the first of
    them is (seconds), how many auditors were heard of lately."""

    noted: bool
    waiting: int
    oldest_s: float
    auditors: int


def take(consumer: str, start: str, count: int, block_ms: int) -> Op[list[Entry]]:
    """Up to `count` entries for `consumer` from `start` (`OWN` or `NEW`); waits for new ones, `block_ms` at
    most. Sets the audit up where it is not, so also in a Redis that came back empty."""
    _, reply = yield [
        ("EVAL", _SET_UP, 2, names.AUDITING_KEY, names.FINALS_KEY, GROUP, consumer),
        (
            "XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "BLOCK", block_ms,
            "STREAMS", names.FINALS_KEY, start,
        ),
    ]  # fmt: skip
    # a list of pairs or a mapping, by the version of redis-py
    streams = dict(reply.items() if isinstance(reply, dict) else reply or ())
    return [entry for entries in streams.values() for entry in _entries(entries)]


def claim(consumer: str, idle_ms: int, count: int) -> Op[list[Entry]]:
    """Entries that another consumer was given more than `idle_ms` ago and has not recorded, now given to
    `consumer`."""
    (reply,) = yield [
        ("XAUTOCLAIM", names.FINALS_KEY, GROUP, consumer, idle_ms, "0-0", "COUNT", count),
    ]
    return list(_entries(reply[1]))


def documents(entries: Sequence[Entry]) -> Op[list[bytes | None]]:
    """The task-meta document of each entry's job as it stands in Redis, or as it travels in the entry itself.
    None where there is none any more."""
    (reply,) = yield [("MGET", *(names.result_key(entry.job_id) for entry in entries))]
    return [
        stored if entry.document is None else entry.document
        for entry, stored in zip(entries, reply, strict=True)
    ]


def done(entry_ids: Sequence[str]) -> Op[None]:
    """Take entries that are on record off the stream."""
    yield [("EVAL", _DONE, 1, names.FINALS_KEY, GROUP, *entry_ids)]


def forget_consumers(idle_ms: int) -> Op[int]:
    """Take auditors off the group that ended at least `idle_ms` ago and left nothing behind."""
    (reply,) = yield [("EVAL", _FORGET, 2, names.AUDITING_KEY, names.FINALS_KEY, GROUP, idle_ms)]
    return int(reply)


def condition(alive_ms: int) -> Op[Condition]:
    """How the audit stands; an auditor counts as alive if it was heard of within `alive_ms`."""
    (reply,) = yield [("EVAL", _CONDITION, 2, names.AUDITING_KEY, names.FINALS_KEY, alive_ms)]
    noted, waiting, age, auditors = (int(word) for word in reply)
    return Condition(bool(noted), waiting, max(0, age) / 1000, auditors)


def switch_off(*, discard: bool) -> Op[int]:
    """Note no more finals. Returns how many were not on record; then, unless `discard`, nothing was done."""
    (reply,) = yield [("EVAL", _SWITCH_OFF, 2, names.AUDITING_KEY, names.FINALS_KEY, int(discard))]
    return int(reply)


def _entries(found: Sequence[Any]) -> Iterator[Entry]:
    """Entries as redis-py gives them; one that was deleted meanwhile has no id or no fields."""
    for entry_id, fields in found:
        if entry_id is not None:
            words = {_text(key): value for key, value in (fields or {}).items()}
            yield Entry(
                id=_text(entry_id),
                job_id=_text(words.get("id", b"")),
                batch=_text(words.get("batch", b"")),
                state=_text(words.get("state", b"")),
                document=words.get("document"),
            )


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
