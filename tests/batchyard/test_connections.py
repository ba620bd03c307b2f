"""Every connection to Redis, whoever makes it, is bounded in time and probed when idle."""

import socket
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from batchyard.app import make_app
from batchyard.connections import connect, keepalive, unreachable
from batchyard.settings import Settings
from tests.yard.cut import Cable

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def bounded(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_timeout": 7.0})


def probed(sock: socket.socket) -> dict[int, int]:
    return {option: sock.getsockopt(socket.IPPROTO_TCP, option) for option in keepalive(7.0)}


def test_our_clients_wait_for_redis_no_longer_than_they_should(bounded: Settings) -> None:
    with connect(bounded) as client:
        connection: Any = client.connection_pool.get_connection()
        assert connection._sock.gettimeout() == 7.0
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert probed(connection._sock) == keepalive(7.0)
        client.connection_pool.release(connection)


def test_celerys_connections_are_made_like_ours(bounded: Settings) -> None:
    app = make_app(bounded)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        polled = channel.client.connection_pool.get_connection()
        assert polled._sock.gettimeout() == 7.0
        assert probed(polled._sock) == keepalive(7.0)
        assert channel.health_check_interval == 3.5
    stored = app.backend.client.connection_pool.get_connection()
    assert stored._sock.gettimeout() == 7.0
    assert stored._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_the_broker_is_tried_again_soon(settings: Settings) -> None:
    waits: list[float] = []
    app = make_app(settings.model_copy(update={"redis_url": NOWHERE}))
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda _exc, wait: waits.append(wait), max_retries=2)
    assert waits == [0.5, 1.0]


def test_a_heartbeat_is_not_published_until_it_succeeds(settings: Settings) -> None:
    with Cable(settings.url) as cable:
        app = make_app(settings.model_copy(update={"redis_url": cable.url}))
        with app.connection_for_write() as connection:
            events = app.events.Dispatcher(connection, hostname="w")
            cable.cut()
            events.send("worker-heartbeat", retry=True)  # as celery.worker.heartbeat does
            assert len(events._outbound_buffer) == 1
            cable.mend()
            events.flush()
            assert len(events._outbound_buffer) == 0


def test_whether_redis_answers_is_said_without_its_password(settings: Settings) -> None:
    assert unreachable(settings) is None
    why = unreachable(Settings(redis_url="redis://:hush@127.0.0.1:1/0"))
    assert why is not None
    assert "127.0.0.1:1" in why
    assert "hush" not in why
