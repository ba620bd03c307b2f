"""kombu's Redis transport with the one step that loses messages closed, and with leases.

The stock transport pops with BRPOP and records the message as unacknowledged in a second command; a
process killed in between loses it. Here one Lua call does both. As Lua cannot block, an idle consumer
waits on a *doorbell* list that our publishers ring; a message from a publisher that does not ring is
found within `IDLE_SECONDS`.

A message is leased: while its consumer lives it renews the lease (`leases.py`), and when the consumer has
been silent for `visibility_timeout` seconds another restores the message, marked redelivered.

Behind kombu's own list of a queue and priority stand flows, one a tenant and batch, that take turns; our
scripts fill them. A message of a flow comes with its tenant in the header `flow`, whatever it says itself.

A consumer that holds as many messages as it may (its prefetch count) still looks for interactive ones every
`PEEK_SECONDS` and takes up to `interactive_extra` of them beyond its count: it can let them go first. It
looks instead of waiting at the bell, so that an idle consumer, which the bell wakes at once, is before it.

Knows nothing of jobs, but that a task with a final result is not run again.
"""

import base64
import logging
import re
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

import redis
from kombu.message import Message
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from batchyard.dead import raw_burial
from batchyard.leases import LeaseKeeper
from batchyard.names import (
    INTERACTIVE_PRIORITIES,
    RESULT_KEY_PREFIX,
    ROUTE_QUEUE,
    bell_key,
    model_of_queue,
)
from batchyard.queue_scripts import LENGTH, POP, PUSH, RENEW, RESTORE

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.25
PEEK_SECONDS = 0.02
RESTORED_AT_ONCE = 100
MAX_MESSAGE_BYTES = 64 << 20

_TAG = re.compile(rb'"delivery_tag": ?"([^"]+)"')
"""The same pattern as in POP."""

RING = """
-- key: bell; args: tokens
for i = 1, tonumber(ARGV[1]) do redis.call('LPUSH', KEYS[1], 1) end
redis.call('LTRIM', KEYS[1], 0, 63)
redis.call('EXPIRE', KEYS[1], 60)
"""


class QoS(stock.QoS):
    """Unacknowledged messages of one consumer; they were recorded when they were popped."""

    peek_at = 0.0
    """When a consumer with all its messages looks for interactive ones again, on the monotonic clock."""

    def can_consume(self) -> bool:
        """Whether to look for a message, or to read the reply of a look that is under way: what it popped is
        recorded as ours, and would lose its lease if the count fell meanwhile and left it unread."""
        return bool(self.channel._in_poll) or self.has_room() or self._may_peek()

    def has_room(self) -> bool:
        """Whether this consumer may take a message of any priority."""
        return bool(virtual.QoS.can_consume(self))

    def _may_peek(self) -> bool:
        held = len(self._delivered) - len(self._dirty)
        return held < self.prefetch_count + self.channel.interactive_extra and monotonic() >= self.peek_at

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, first here, then in Redis. Should Redis not answer, this consumer has room again; the
        lease ends, and whoever gets the message then finds its job ended."""
        self.let_go(delivery_tag)
        self._remove_from_indices(delivery_tag).execute()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject, first here, then in Redis. Should Redis not answer, the end of the lease gives it back."""
        self.let_go(delivery_tag)
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
        else:
            self._remove_from_indices(delivery_tag).execute()

    def let_go(self, delivery_tag: str) -> None:
        """Hold a message no longer: it is neither renewed nor given back at the end of the channel."""
        if delivery_tag in self._delivered:
            virtual.QoS.ack(self, delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """At the end of a channel give its messages back, unless its connection is gone: then their leases
        end by themselves, and asking Redis would only raise."""
        if self.channel.connection.client is None:
            self._on_collect.cancel()
            return
        super().restore_unacked_once(stderr)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        """Acknowledge, in no transaction: a full Redis refuses those, whatever is in them. The record goes
        first, as one that has no lease would stay for ever."""
        with self.channel.conn_or_acquire() as client:
            found = client.pipeline(transaction=False)
            return found.hdel(self.unacked_key, delivery_tag).zrem(self.unacked_index_key, delivery_tag)

    def tags(self) -> list[str]:
        """The messages that this consumer still holds. Called from the leases' thread."""
        return [tag for tag in list(self._delivered) if tag not in self._dirty]

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Give back every message whose lease has ended, by Redis's clock: hosts' clocks may differ."""
        with self.channel.conn_or_acquire() as client:
            while self._restore(client, "", to_back=False) >= RESTORED_AT_ONCE:
                pass

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give one message back to its queue, to the back with `leftmost`."""
        with self.channel.conn_or_acquire(client) as connection:
            self._restore(connection, bytes_to_str(tag), to_back=leftmost)

    def _restore(self, client: Any, tag: str, *, to_back: bool) -> int:
        """Give back one message, or (tag empty) some of those whose lease has ended; returns how many. A
        record that cannot be read is set aside."""
        lease, separator = self.visibility_timeout, self.channel.sep
        keys = self.unacked_index_key, self.unacked_key
        count, *unreadable = client.eval(RESTORE, 2, *keys, lease, int(to_back), separator, tag)
        for broken, record in zip(unreadable[::2], unreadable[1::2], strict=True):
            logger.error("set aside a record of an unacknowledged message that cannot be read")
            set_aside(client, "unacked", record, self, bytes_to_str(broken))
        if count and not tag:
            logger.warning("%d messages whose consumer is gone were given back", count)
        return int(count) + len(unreadable) // 2


class Channel(stock.Channel):
    """A channel whose pop and record are one step."""

    QoS = QoS

    interactive_extra = 0
    """How many interactive messages a consumer may hold beyond its prefetch count."""
    from_transport_options = (*stock.Channel.from_transport_options, "interactive_extra")

    _idle = False
    """Whether the last pop found nothing, so that the next command waits for the bell."""
    _sent_bell = False
    _peeking = False
    """Whether the last pop was one for interactive messages alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unacknowledged: set[str] = set()
        """Queues whose consumer never acknowledges (Celery's remote-control replies)."""
        super().__init__(*args, **kwargs)

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        if no_ack:
            self._unacknowledged.add(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def take_over(self, messages: Iterable[Message]) -> None:
        """Hold messages whose consumer has lost its connection and goes on with them, renewing their leases;
        those that were given to others meanwhile stay theirs."""
        held = {message.delivery_tag: message for message in messages}
        gone: list[Any] = []
        if held:
            with self.conn_or_acquire() as client:
                gone = client.eval(RENEW, 1, self.unacked_index_key, *held)
            logger.warning(
                "%d messages go on here, %d were given to others", len(held) - len(gone), len(gone)
            )
        for tag in held.keys() - {bytes_to_str(tag) for tag in gone}:
            self.qos.append(held[tag], tag)
        for message in held.values():
            message.channel = self

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self.client.connection
        self._peeking = not self.qos.has_room()
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        self._sent_bell = self._idle and not self._peeking
        if self._sent_bell:
            connection.send_command("BLPOP", *(bell_key(queue) for queue in queues), IDLE_SECONDS)
            return
        priorities = INTERACTIVE_PRIORITIES if self._peeking else self.priority_steps
        places = [(queue, priority) for priority in priorities for queue in queues]
        lists = [self._q_for_pri(queue, priority) for queue, priority in places]
        sources = [
            word
            for queue, priority in places
            for word in (queue, priority, int(queue not in self._unacknowledged))
        ]
        connection.send_command(
            "EVAL", POP, 2 + len(lists), self.unacked_index_key, self.unacked_key, *lists,
            RESULT_KEY_PREFIX, *sources,
        )  # fmt: skip

    def _brpop_read(self, **options: Any) -> bool:
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "EVAL", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if reply is None and self._peeking:
                self._peek_later()
                raise stock.Empty()
            if self._sent_bell or reply is None:
                self._idle = not self._sent_bell
                raise stock.Empty()
            self._idle = False
            if isinstance(reply, int):  # so many were dropped; there may be more
                raise stock.Empty()
            queue = bytes_to_str(reply[0])
            self._queue_cycle.rotate(queue)
            if not self._hand_over(queue, reply[1], bytes_to_str(reply[2])):
                raise stock.Empty()
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _peek_later(self) -> None:
        self.qos.peek_at = monotonic() + PEEK_SECONDS
        wake = self.connection.wake_after
        if wake is not None:
            wake(PEEK_SECONDS)

    def _hand_over(self, queue: str, message: bytes, tenant: str) -> bool:
        """Give a message to its consumer, with the tenant of its flow, empty where it came through none.
        One that is none of Celery's, or that makes its consumer stumble,
        is set aside: a bad push must not stop a worker, nor wait for the next one."""
        payload = read_envelope(message)
        if payload is not None:
            payload["headers"]["flow"] = tenant
            try:
                self.connection._deliver(payload, queue)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                logger.exception("a message on %r cannot be handled", queue)
            else:
                return True
        logger.error("set aside %d bytes on %r that are no message of ours", len(message), queue)
        tag = _TAG.search(message)
        with self.conn_or_acquire() as client:
            set_aside(client, queue, message, self.qos, tag[1].decode() if tag else None)
        return False

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        if (
            queue in self._expires or "_publish_batch" in kwargs
        ):  # answers to remote control; a producer's pile
            super()._put(queue, message, **kwargs)
            ring(self.client, queue)
            return
        name = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        with self.conn_or_acquire() as client:
            client.eval(PUSH, 2, name, bell_key(queue), dumps(message))

    def _size(self, queue: str) -> int:
        """Messages that wait, flows included where there are any. In no transaction: a full Redis refuses
        those."""
        with self.conn_or_acquire() as client:
            if queue == ROUTE_QUEUE or model_of_queue(queue):
                return int(client.eval(LENGTH, 0, self.sep, self.priority_steps[-1], queue))
            lists = client.pipeline(transaction=False)
            for priority in self.priority_steps:
                lists.llen(self._q_for_pri(queue, priority))
            return sum(lists.execute())

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **_: Any
    ) -> None:
        """Delete a queue (answers to remote control have one each), in no transaction: a full Redis refuses
        those."""
        self.auto_delete_queues.discard(queue)
        member = self.sep.join([routing_key or "", pattern or "", queue or ""])
        with self.conn_or_acquire() as client:
            client.srem(self.keyprefix_queue % (exchange,), member)
            client.srem(self.keyprefix_binding_permanent % (exchange,), member)
            client.delete(*(self._q_for_pri(queue, priority) for priority in self.priority_steps))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Note that a queue is bound, if Redis has room for it: it is consumed by its name all the same, and
        a worker must be able to start where there is none, or nothing would ever make any."""
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except redis.ResponseError as exc:
            if "OOM" not in str(exc) and not isinstance(exc, redis.OutOfMemoryError):
                raise
            logger.warning("Redis is full; that %s is bound to %s is not noted", queue, exchange)


class Transport(stock.Transport):
    """The transport to name in `broker_transport`: `batchyard.transport:Transport`."""

    Channel = Channel

    wake_after: Callable[[float], None] | None = None
    """Makes the event loop, if there is one, turn once more after so many seconds: nothing else would."""

    _leases: LeaseKeeper | None = None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.wake_after = lambda seconds: loop.call_later(seconds, lambda: None)
        cycle = self.cycle
        lease = float(connection.client.transport_options.get("visibility_timeout", 3600))
        if self._leases is None:
            self._leases = LeaseKeeper(self._held, self._lease_connection, lease / 4)
        self._leases.turned()
        # A reconnect registers again on the same cycle; the timer of the lost connection must go.
        stale = getattr(cycle, "_turned_tref", None)
        if stale is not None:
            stale.cancel()
        cycle._turned_tref = loop.call_repeatedly(1.0, self._leases.turned)

    def _held(self) -> list[tuple[str, list[str]]]:
        """What the channels hold, for the leases' thread."""
        held = [channel._qos for channel in list(self.cycle._channels) if channel._qos is not None]
        return [(qos.unacked_index_key, qos.tags()) for qos in held]

    def _lease_connection(self) -> "redis.Redis":
        """A connection of the leases' thread alone, given up long before a lease ends."""
        channels = list(self.cycle._channels)
        if not channels:
            raise redis.ConnectionError("the channels have just been closed")
        channel = channels[0]
        seconds = channel.visibility_timeout / 3  # so that a new one can still renew them in time
        parameters = channel._connparams() | {
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "max_connections": None,
        }
        return redis.Redis(connection_pool=redis.ConnectionPool(**parameters))

    def close_connection(self, connection: Any) -> None:
        if self._leases is not None:
            self._leases.stop()
            self._leases = None
        super().close_connection(connection)


def set_aside(client: Any, queue: str, message: bytes, qos: QoS, tag: str | None) -> None:
    """Keep a message as a dead letter, off the unacknowledged."""
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command(*raw_burial(queue, message, "no message that Celery can handle"))
        if tag is not None:  # it was recorded as a message when it was popped
            pipe.hdel(qos.unacked_key, tag).zrem(qos.unacked_index_key, tag)
        pipe.execute()
    if tag is not None:
        qos.let_go(tag)


def read_envelope(message: bytes) -> dict[str, Any] | None:
    """The kombu envelope in the raw bytes of a message, or None if Celery could not handle it: among others
    what is longer than any chunk of ours, which is not read at all, and what is no JSON."""
    if len(message) > MAX_MESSAGE_BYTES:
        return None
    try:
        payload = loads(bytes_to_str(message))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None  # TypeError and the like: kombu makes objects of {"__type__": …, "__value__": …}
    if not isinstance(payload, dict) or not isinstance(payload.get("body"), str):
        return None
    if payload.get("content-type") != "application/json":
        return None
    properties, headers = payload.get("properties"), payload.get("headers")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        return None
    if not isinstance(properties.get("delivery_info"), dict) or not isinstance(headers, dict):
        return None
    readable = _body_is_readable(payload["body"], properties.get("body_encoding"))
    return payload if readable and _headers_are_sound(headers) else None


def _body_is_readable(body: str, encoding: object) -> bool:
    if encoding == "base64":
        try:
            base64.b64decode(body)
        except ValueError:
            return False
    return encoding in (None, "base64")


def _headers_are_sound(headers: dict[str, Any]) -> bool:
    """Whether a task message names its task and id; remote control has neither, and is left to Celery."""
    if "task" not in headers and "id" not in headers:
        return True
    limits = headers.get("timelimit") or [None, None]
    retries = headers.get("retries") or 0
    return (
        isinstance(headers.get("task"), str)
        and isinstance(headers.get("id"), str)
        and isinstance(limits, list)
        and len(limits) == 2
        and type(retries) is int
        and 0 <= retries < 1 << 31
        and all(limit is None or type(limit) in (int, float) for limit in limits)
    )


def ring(client: Any, queue: str, tokens: int = 1) -> None:
    """Wake up to `tokens` idle consumers of `queue`, on any redis-py client."""
    client.eval(RING, 1, bell_key(queue), tokens)
