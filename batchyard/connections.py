"""Connections to Redis: how each is made, and when a silent one is given up. The one place that says so.

A cut cable, a switch without power, a host that is gone: nothing tells this side that its connection is
dead. So nobody waits for longer than `redis_timeout`, neither for a connection nor for an answer, and the
kernel is told to probe connections that are idle (docs/network.md). Our own clients get one more attempt on
a new connection, which is what a restarted Redis, or a firewall that forgot an idle connection, needs.
Celery's connections, made by kombu and its result backend, get the same settings as options.

Knows nothing of jobs and keys. Imports no Celery: the light client does not.
"""

import math
import socket
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from batchyard.settings import Settings

RETRIES = 1
"""Further attempts of a command. Every operation of ours may be repeated; many attempts would keep a caller
waiting in vain, as each may take `redis_timeout` and redis-py connects as often again in each."""
RETRY_AFTER_SECONDS = 0.25
_PROBES = 3


def connect(settings: Settings) -> redis.Redis:
    """A client for one process; safe to share between threads. Nothing is connected yet."""
    return redis.Redis.from_url(
        settings.url, retry=Retry(ConstantBackoff(RETRY_AFTER_SECONDS), RETRIES), **_options(settings)
    )


def unreachable(settings: Settings) -> str | None:
    """Why Redis does not answer now, None if it does: for the log of a role that starts."""
    with connect(settings) as client:
        try:
            client.ping()
        except redis.RedisError as exc:
            return str(exc)
    return None


def connect_async(settings: Settings) -> redis.asyncio.Redis:
    """A client for one event loop. Nothing is connected yet."""
    return redis.asyncio.Redis.from_url(
        settings.url, retry=AsyncRetry(ConstantBackoff(RETRY_AFTER_SECONDS), RETRIES), **_options(settings)
    )


def broker_options(timeout: float) -> dict[str, Any]:
    """Transport options for kombu's Redis transport.

    Its event loop looks every `health_check_interval` seconds whether the reply to the command that fetches
    messages is overdue (by that interval and a second), and pings the connection of remote control, which it
    closes after two pings without an answer.
    """
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive(timeout),
        "health_check_interval": timeout / 2,
    }


def backend_settings(timeout: float) -> dict[str, Any]:
    """Celery settings for its Redis result backend."""
    return {
        "redis_socket_timeout": timeout,
        "redis_socket_connect_timeout": timeout,
        "redis_socket_keepalive": True,
    }


def keepalive(timeout: float) -> dict[int, int]:
    """Socket options of TCP, as far as this platform has them: an idle connection is probed after `timeout`
    seconds and closed after as many more; so is one whose data nobody acknowledges in twice the time."""
    seconds = max(1, math.ceil(timeout))
    wanted = {
        "TCP_KEEPIDLE": seconds,
        "TCP_KEEPALIVE": seconds,  # the same on macOS
        "TCP_KEEPINTVL": max(1, math.ceil(seconds / _PROBES)),
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": 2000 * seconds,
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _options(settings: Settings) -> dict[str, Any]:
    timeout = settings.redis_timeout
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "socket_keepalive_options": keepalive(timeout),
    }
