"""Redis users with the least that each role of the yard needs, as the lines of an ACL file.

What a role may touch follows from `batchyard.names`, and what a producer may run from the scripts that it
runs: Redis runs a script with the rights of whoever calls it, and checks each key where it is used. Pure: it
makes text and asks nobody. What these rules cannot keep apart stands in docs/security.md.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchyard import names, scripts
from batchyard.errors import InvalidConfig, shown

OPERATOR, ROUTER, WORKER, FLOWER, AUDITOR = "operator", "router", "worker", "flower", "auditor"
FINE_SINCE = 7
"""The first Redis whose rules tell reading a key from writing it, and allow a command on some keys only. For
an older one they are coarser: each command that a user has, on each key that it has.
"""


@dataclass(frozen=True, slots=True)
class Shared:
    """A key that others depend on, too, and the few commands that are allowed on it."""

    key: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may: `commands` as rules in their order, on patterns of `keys`, or of keys that are only
    read or only written with them; further commands on `shared` keys; channels.
    """

    commands: tuple[str, ...]
    keys: tuple[str, ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    shared: tuple[Shared, ...] = ()
    channels: tuple[str, ...] = ()


def producer_user(tenant: str) -> str:
    """The user under which a tenant's producers come."""
    return f"producer-{tenant}"


def worker_user(model: str) -> str:
    """The user of one model's workers."""
    return f"{WORKER}-{model}"


def producer(tenant: str) -> Rights:
    """Submit, wait for, read and cancel the jobs of one tenant; nothing of another's, and no queue."""
    everything = names.full_name(tenant, "*")
    queue = names.ROUTE_QUEUE
    shared = (
        Shared(_any_priority(names.ring_key(queue, _ANY)), ("+lpush",)),
        Shared(names.bell_key(queue), ("+lpush", "+ltrim", "+expire")),
        Shared(names.WAITING_KEY, ("+hget", "+hincrby")),
        Shared(names.DEADLINES_KEY, ("+zadd", "+zrem")),
        Shared(names.FINALS_KEY, ("+xadd",)),
    )
    return Rights(
        commands=(
            *_CONNECT,
            *_SCRIPTS,
            *_allow(" ".join(sorted(called(scripts.SUBMIT, scripts.CANCEL) - {"ltrim", "zadd", "zrem"}))),
            *_allow("get mget set exists hmget lrange xrange xread subscribe unsubscribe"),
        ),
        keys=(
            names.claim_key(everything),
            names.result_key(everything),
            names.batch_key(everything),
            names.batch_jobs_key(everything),
            names.batch_done_key(everything),
            names.blob_key(tenant, "*"),
            names.open_key(tenant),
            _any_priority(names.flow_key(queue, _ANY, tenant, "*")),
            _any_priority(names.ring_key(queue, _ANY, tenant)),
        ),
        reads=(names.LIMITS_KEY, names.FULL_KEY, names.RATES_KEY, names.CATALOGUE_KEY, names.AUDITING_KEY),
        shared=shared,
        channels=(names.result_key(everything),),
    )


def router(database: int = 0) -> Rights:
    """Take chunks, publish to every model's queue, end jobs; and the janitor's work."""
    return Rights(
        commands=(*_CONNECT, *_SCRIPTS, *_DATA, "+info"),
        keys=(
            *_JOBS,
            names.claim_key("*"),
            *_queue(names.ROUTE_QUEUE),
            *_queue(names.model_queue("*")),
            names.CATALOGUE_KEY,
            names.LIMITS_KEY,
            names.FULL_KEY,
            names.RATES_KEY,
            names.JANITOR_KEY,
            *_REMOTE_CONTROL_KEYS,
        ),
        channels=(names.result_key("*"), _remote_control(database), _events(database)),
    )


def worker(model: str = "*", database: int = 0) -> Rights:
    """Take the jobs of one model (`*`: of any), store their results, fetch their images. Any worker gives
    back the messages of any consumer that died, so it may put messages into every queue.
    """
    return Rights(
        commands=(*_CONNECT, *_SCRIPTS, *_DATA),
        keys=(*_JOBS, *_queue(names.model_queue(model)), *_REMOTE_CONTROL_KEYS),
        reads=(names.blob_key("*", "*"), names.claim_key("*")),
        writes=(*_queue(names.ROUTE_QUEUE), *(() if model == "*" else _queue(names.model_queue("*")))),
        channels=(names.result_key("*"), _remote_control(database), _events(database)),
    )


def flower(database: int = 0) -> Rights:
    """Watch the events of routers and workers and the length of kombu's queues; command nobody."""
    return Rights(
        commands=(
            *_CONNECT,
            *_SCRIPTS,
            *_allow("sadd srem smembers zadd zrem zrangebyscore time del exists"),
            *_allow("pexpire multi exec llen publish"),
            *_allow("subscribe unsubscribe psubscribe punsubscribe"),
        ),
        keys=_REMOTE_CONTROL_KEYS,
        reads=(names.ROUTE_QUEUE, names.ROUTE_QUEUE + _PRIORITY, names.model_queue("*")),
        channels=(_events(database),),
    )


def auditor() -> Rights:
    """Read what has ended, and take it off the stream of finals."""
    return Rights(
        commands=(
            *_CONNECT,
            *_SCRIPTS,
            *_allow("get mget set del exists time xadd xrange xlen xdel xtrim"),
            *_allow("xreadgroup xgroup xack xpending xclaim xautoclaim xinfo"),
            *_allow("hset hsetnx hget hgetall hdel hexists persist expire"),
        ),
        keys=(names.FINALS_KEY, names.AUDITING_KEY),
        reads=(names.result_key("*"),),
    )


def operator() -> Rights:
    """Everything: for whoever runs the yard."""
    return Rights(commands=("+@all",), keys=("*",), channels=("*",))


def yard_users(tenants: Sequence[str], models: Sequence[str] = (), database: int = 0) -> dict[str, Rights]:
    """Every user of a yard by name. One is for all workers; those of each of `models` get one of their own.

    Raises:
        InvalidConfig: a name is none, or the tenants cannot be kept apart.
    """
    for field, name in (*(("tenant", one) for one in tenants), *(("model", one) for one in models)):
        if _NAME.fullmatch(name) is None:
            raise InvalidConfig(
                f"{shown(name)} is no name",
                field=field,
                remedy="use letters, digits and _.:/@+- (128 at most, a letter or digit first)",
            )
    if names.DEFAULT_TENANT in tenants and len(set(tenants)) > 1:
        raise InvalidConfig(
            f"{names.DEFAULT_TENANT!r} beside other tenants: its names have no prefix, so its rule would let "
            "its producers read every other tenant's",
            field="tenant",
            remedy="give its producers a tenant of their own",
        )
    users = {
        OPERATOR: operator(),
        ROUTER: router(database),
        WORKER: worker(database=database),
        FLOWER: flower(database),
        AUDITOR: auditor(),
    }
    users |= {worker_user(model): worker(model, database) for model in models}
    return users | {producer_user(tenant): producer(tenant) for tenant in tenants}


def users_file(users: Mapping[str, tuple[Rights, str]], redis_version: int = FINE_SINCE) -> str:
    """An ACL file with these users, of name, rights and password. Without a login one can do nothing but
    PING, as the user `health`.

    Passwords stand in it as SHA-256, so they must be long random ones: a guess costs nothing.
    """
    lines = [_line(name, rights, password, redis_version) for name, (rights, password) in users.items()]
    return "\n".join([_NOBODY, _PROBE, *lines]) + "\n"


def called(*script_texts: str) -> frozenset[str]:
    """The commands that Lua scripts run."""
    return frozenset(name.lower() for text in script_texts for name in _CALL.findall(text))


_CALL = re.compile(r"redis\.p?call\(\s*'([A-Za-z]+)'")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,127}")
"""What tenants and models may be called; nothing in it means more than itself in a pattern."""


def _allow(commands: str) -> tuple[str, ...]:
    return tuple(f"+{command}" for command in commands.split())


_CONNECT = ("+ping", "+select")
_SCRIPTS = ("+eval", "+evalsha", "+script|load", "+script|exists")
_DATA = (
    *("+@read", "+@write", "+@pubsub", "+@transaction"),
    *("-@dangerous", "-@admin", "-scan", "-randomkey", "-dbsize", "-pubsub"),
    "+time",
)
"""Any command on keys by their names; none that lists, sorts, moves, flushes, watches others or configures.
"""

_ANY = 987_654_321
"""Stands for a priority until it is replaced by a pattern."""


def _any_priority(key: str) -> str:
    return key.replace(str(_ANY), "[0-9]")


_PRIORITY = "[^!-~][^!-~][0-9]"
"""What kombu puts behind a queue's name: two characters that cannot be printed, and the priority."""


def _queue(queue: str) -> tuple[str, ...]:
    """The keys of a queue: kombu's lists, flows and rings, the bell."""
    return (
        queue,
        queue + _PRIORITY,
        _any_priority(names.flow_key(queue, _ANY, "*", "*")),
        _any_priority(names.ring_key(queue, _ANY)),
        _any_priority(names.ring_key(queue, _ANY, "*")),
        names.bell_key(queue),
    )


_JOBS = (
    names.result_key("*"),
    names.UNACKED_KEY,
    f"{names.UNACKED_KEY}:index",
    f"{names.UNACKED_KEY}:index:looked",
    f"{names.UNACKED_KEY}:mutex",
    names.batch_key("*"),
    names.batch_done_key("*"),
    names.open_key("*"),
    names.WAITING_KEY,
    names.DONE_KEY,
    names.DEADLINES_KEY,
    names.FINALS_KEY,
    names.AUDITING_KEY,
    names.DEAD_KEY,
    names.DEAD_INDEX_KEY,
    names.alone_key("*"),
)
"""What is written while a job is in hand, and when it ends."""

_UUID = "????????-????-????-????-????????????"
_MAILBOXES = (f"{_UUID}.reply.celery.pidbox", "?*@?*.celery.pidbox", f"celeryev.{_UUID}")
_REMOTE_CONTROL_KEYS = (
    "_kombu.binding.*",
    "_kombu.binding_permanent.*",
    "_kombu.binding_deadlines",
    *_MAILBOXES,
    *(queue + _PRIORITY for queue in _MAILBOXES),
    *(names.bell_key(queue) for queue in _MAILBOXES),
    *(_any_priority(names.ring_key(queue, _ANY)) for queue in _MAILBOXES),
)
"""Celery's: which queues are bound to which exchange, where answers to `inspect` go, and the lists of queues
that get what is broadcast (empty, but looked at).
"""


def _remote_control(database: int) -> str:
    return f"/{database}.celery.pidbox"


def _events(database: int) -> str:
    return f"/{database}.celeryev/*"


_NOBODY = "user default off sanitize-payload resetkeys resetchannels -@all"
_PROBE = "user health on nopass sanitize-payload resetkeys resetchannels -@all +ping"
"""For a health check, which needs no secret then."""


def _line(name: str, rights: Rights, password: str, redis_version: int) -> str:
    digest = hashlib.sha256(password.encode("utf-8")).hexdigest()
    fine = redis_version >= FINE_SINCE
    words = ["user", name, "on", f"#{digest}", "sanitize-payload", "resetkeys", "resetchannels", "-@all"]
    words += [f"~{pattern}" for pattern in rights.keys]
    words += [f"{'%R' if fine else ''}~{pattern}" for pattern in rights.reads]
    words += [f"{'%W' if fine else ''}~{pattern}" for pattern in rights.writes]
    words += [f"&{pattern}" for pattern in rights.channels]
    words += rights.commands
    for one in rights.shared:
        grant = " ".join([f"~{one.key}", *one.commands])
        words.append(f"({grant})" if fine else grant)
    return " ".join(words)
