"""kombu's Redis transport with the one step that loses messages closed, and with leases.

The stock transport pops with BRPOP and records the message as unacknowledged in a second command; a
process killed in between loses it. Here one Lua call does both. As Lua cannot block, an idle consumer
waits on a *doorbell* list that our publishers ring; a message from a publisher that does not ring is
found within `IDLE_SECONDS`.

A message is leased: while its consumer lives it renews the lease, and when the consumer has been silent
for `visibility_timeout` seconds another restores the message, marked redelivered.

A consumer that holds as many messages as it may (its prefetch count) still looks for interactive ones every
`PEEK_SECONDS` and takes up to `interactive_extra` of them beyond its count: it can let them go first. It
looks instead of waiting at the bell, so that an idle consumer, which the bell wakes at once, is before it.

Knows nothing of jobs, but that a task with a final result is not run again.
"""

import base64
import logging
import re
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from batchyard.names import INTERACTIVE_PRIORITIES, RESULT_KEY_PREFIX, bell_key, unprocessable_key

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.25
PEEK_SECONDS = 0.02
UNPROCESSABLE_KEPT = 1000

_TAG = re.compile(rb'"delivery_tag": ?"([^"]+)"')
"""The same pattern as in POP."""

POP = """
-- keys: lists by priority, the queues in turn within one
-- args: index key, unacked key, result key prefix, then for each list its queue and 1 if its consumer
-- acknowledges
-- A task that has its final result (it was cancelled, say) is dropped here: handing 50,000 of them to
-- workers would hold up the queue for minutes. Returns the number dropped if there was nothing else to do.
local function finished(message)
  local id = string.match(message, '"id": ?"([^"]+)"')
  local state = id and redis.call('GET', ARGV[3] .. id)
  local status = state and string.match(state, '^{"status": ?"(%u+)"')
  return status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
end
local dropped = 0
for i, list in ipairs(KEYS) do
  local message = redis.call('RPOP', list)
  while message and finished(message) do
    dropped = dropped + 1
    if dropped >= 1000 then return dropped end
    message = redis.call('RPOP', list)
  end
  if message then
    -- what has no tag is no message of Celery's; the caller sets it aside
    local tag = string.match(message, '"delivery_tag": ?"([^"]+)"')
    if tag and ARGV[3 + 2 * i] == '1' then
      local now = redis.call('TIME')
      redis.call('ZADD', ARGV[1], now[1] + now[2] / 1000000, tag)
      redis.call('HSET', ARGV[2], tag, '[' .. message .. ', "", "' .. ARGV[2 + 2 * i] .. '"]')
    end
    return {ARGV[2 + 2 * i], message}
  end
end
if dropped > 0 then return dropped end
return nil
"""

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

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """At the end of a channel give its messages back, unless its connection is gone: then their leases
        end by themselves, and asking Redis would only raise."""
        if self.channel.connection.client is None:
            self._on_collect.cancel()
            return
        super().restore_unacked_once(stderr)

    def renew(self) -> None:
        """Renew the lease of every message this consumer still holds."""
        tags = [tag for tag in list(self._delivered) if tag not in self._dirty]
        if tags:
            with self.channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(tags, server_time(client)), xx=True)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Give back every message whose lease has ended, by Redis's clock: hosts' clocks may differ."""
        with self.channel.conn_or_acquire() as client:
            ended = server_time(client) - self.visibility_timeout
            try:
                with stock.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire):
                    tags = client.zrangebyscore(
                        self.unacked_index_key, 0, ended, start=start, num=num or 1000
                    )
                    for tag in tags:
                        self.restore_by_tag(bytes_to_str(tag), client)
            except stock.MutexHeld:
                pass

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give one message back to its queue; a record that cannot be read is set aside."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (ValueError, TypeError, LookupError, RecursionError):
            logger.exception("set aside a record of an unacknowledged message that cannot be read")
            with self.channel.conn_or_acquire(client) as connection:
                record = connection.hget(self.unacked_key, tag)
                set_aside(connection, "unacked", record or b"", self, tag)


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
        lists = [(self._q_for_pri(queue, pri), queue) for pri in priorities for queue in queues]
        sources = [word for _, queue in lists for word in (queue, int(queue not in self._unacknowledged))]
        connection.send_command(
            "EVAL", POP, len(lists), *(name for name, _ in lists),
            self.unacked_index_key, self.unacked_key, RESULT_KEY_PREFIX, *sources,
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
            if not self._hand_over(queue, reply[1]):
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

    def _hand_over(self, queue: str, message: bytes) -> bool:
        """Give a message to its consumer. One that is none of Celery's, or that makes its consumer stumble,
        is set aside: a bad push must not stop a worker, nor wait for the next one."""
        payload = read_envelope(message)
        if payload is not None:
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
        super()._put(queue, message, **kwargs)
        ring(self.client, queue)


class Transport(stock.Transport):
    """The transport to name in `broker_transport`: `batchyard.transport:Transport`."""

    Channel = Channel

    wake_after: Callable[[float], None] | None = None
    """Makes the event loop, if there is one, turn once more after so many seconds: nothing else would."""

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
        self.wake_after = lambda seconds: loop.call_later(seconds, lambda: None)
        cycle = self.cycle
        lease = float(connection.client.transport_options.get("visibility_timeout", 3600))

        def renew() -> None:
            for channel in list(cycle._channels):
                if channel._qos is not None:
                    try:
                        channel.qos.renew()
                    except channel.connection_errors:
                        logger.warning("could not renew leases; the consumer loop reconnects", exc_info=True)

        # A reconnect registers again on the same cycle; the timer of the lost connection must go.
        stale = getattr(cycle, "_renew_tref", None)
        if stale is not None:
            stale.cancel()
        cycle._renew_tref = loop.call_repeatedly(lease / 4, renew)


def set_aside(client: Any, queue: str, message: bytes, qos: QoS, tag: str | None) -> None:
    """Keep a message under `batchyard:unprocessable:<queue>` (the last thousand), off the unacknowledged."""
    with client.pipeline() as pipe:
        pipe.rpush(unprocessable_key(queue), message)
        pipe.ltrim(unprocessable_key(queue), -UNPROCESSABLE_KEPT, -1)
        if tag is not None:  # it was recorded as a message when it was popped
            pipe.zrem(qos.unacked_index_key, tag).hdel(qos.unacked_key, tag)
        pipe.execute()
    if tag is not None and tag in qos._delivered:
        virtual.QoS.ack(qos, tag)


def server_time(client: Any) -> float:
    """Redis's own clock, in seconds since the epoch."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1_000_000)


def read_envelope(message: bytes) -> dict[str, Any] | None:
    """The kombu envelope in the raw bytes of a message, or None if Celery could not handle it."""
    try:
        payload = loads(bytes_to_str(message))
    except (ValueError, RecursionError):
        return None
    if not isinstance(payload, dict) or not isinstance(payload.get("body"), str):
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
    return (
        isinstance(headers.get("task"), str)
        and isinstance(headers.get("id"), str)
        and isinstance(limits, list)
        and len(limits) == 2
        and all(limit is None or isinstance(limit, int | float) for limit in limits)
    )


def ring(client: Any, queue: str, tokens: int = 1) -> None:
    """Wake up to `tokens` idle consumers of `queue`, on any redis-py client."""
    client.eval(RING, 1, bell_key(queue), tokens)
