"""kombu's Redis transport with the one step that loses messages closed, and with leases.

The stock transport pops with BRPOP and records the message as unacknowledged in a second command; a
process killed in between loses it. Here one Lua call does both. As Lua cannot block, an idle consumer
waits on a *doorbell* list that our publishers ring; a message from a publisher that does not ring is
found within `IDLE_SECONDS`.

A message is leased: while its consumer lives it renews the lease, and when the consumer has been silent
for `visibility_timeout` seconds another restores the message, marked redelivered.

Knows nothing of jobs.
"""

import logging
import re
from time import monotonic, time
from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from batchyard.names import bell_key, unprocessable_key

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.25

_TAG = re.compile(rb'"delivery_tag": ?"([^"]+)"')
"""The same pattern as in POP."""

POP = """
-- keys: lists by priority, the queues in turn within one
-- args: index key, unacked key, now, then for each list its queue and 1 if its consumer acknowledges
for i, list in ipairs(KEYS) do
  local message = redis.call('RPOP', list)
  if message then
    -- what has no tag is no message of Celery's; the caller sets it aside
    local tag = string.match(message, '"delivery_tag": ?"([^"]+)"')
    if tag and ARGV[3 + 2 * i] == '1' then
      redis.call('ZADD', ARGV[1], ARGV[3], tag)
      redis.call('HSET', ARGV[2], tag, '[' .. message .. ', "", "' .. ARGV[2 + 2 * i] .. '"]')
    end
    return {ARGV[2 + 2 * i], message}
  end
end
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
            now = time()
            with self.channel.conn_or_acquire() as client:
                client.zadd(self.unacked_index_key, dict.fromkeys(tags, now), xx=True)


class Channel(stock.Channel):
    """A channel whose pop and record are one step."""

    QoS = QoS

    _idle = False
    """Whether the last pop found nothing, so that the next command waits for the bell."""
    _sent_bell = False

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
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        self._sent_bell = self._idle
        if self._idle:
            connection.send_command("BLPOP", *(bell_key(queue) for queue in queues), IDLE_SECONDS)
            return
        lists = [(self._q_for_pri(queue, pri), queue) for pri in self.priority_steps for queue in queues]
        sources = [word for _, queue in lists for word in (queue, int(queue not in self._unacknowledged))]
        connection.send_command(
            "EVAL", POP, len(lists), *(name for name, _ in lists),
            self.unacked_index_key, self.unacked_key, repr(time()), *sources,
        )  # fmt: skip

    def _brpop_read(self, **options: Any) -> bool:
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "EVAL", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if self._sent_bell or reply is None:
                self._idle = not self._sent_bell
                raise stock.Empty()
            self._idle = False
            queue = bytes_to_str(reply[0])
            self._queue_cycle.rotate(queue)
            payload = read_envelope(reply[1])
            if payload is None:
                self._set_aside(queue, reply[1])
                raise stock.Empty()
            self.connection._deliver(payload, queue)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _set_aside(self, queue: str, message: bytes) -> None:
        """Keep what is no message out of the way; one bad push must not stop a consumer."""
        logger.error("set aside %d bytes on %r that are no Celery message", len(message), queue)
        tag = _TAG.search(message)
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.rpush(unprocessable_key(queue), message)
            if tag is not None:  # it was recorded as a message when it was popped
                pipe.zrem(self.unacked_index_key, tag[1]).hdel(self.unacked_key, tag[1])
            pipe.execute()

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        ring(self.client, queue)


class Transport(stock.Transport):
    """The transport to name in `broker_transport`: `batchyard.transport:Transport`."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)
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


def read_envelope(message: bytes) -> dict[str, Any] | None:
    """The kombu envelope in the raw bytes of a message, or None if they are none."""
    try:
        payload = loads(bytes_to_str(message))
    except ValueError:
        return None
    if not isinstance(payload, dict) or not isinstance(payload.get("body"), str):
        return None
    properties = payload.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        return None
    if not isinstance(properties.get("delivery_info"), dict):
        return None
    return payload


def ring(client: Any, queue: str, tokens: int = 1) -> None:
    """Wake up to `tokens` idle consumers of `queue`, on any redis-py client."""
    client.eval(RING, 1, bell_key(queue), tokens)
