"""Chunks in hand are recognised in the real record of unacknowledged messages."""

import redis

from batchyard.app import make_app
from batchyard.client import Client
from batchyard.settings import Settings
from benchmarks.chaos.orphans import LOOK_AGAIN_SECONDS, Orphans
from tests.batchyard.consumers import take


def test_what_a_killed_router_left(settings: Settings) -> None:
    with (
        Client(settings) as client,
        make_app(settings).connection_for_read() as connection,
        redis.Redis.from_url(settings.url) as raw,
    ):
        client.submit_many([{"id": "a", "prompt": "-"}, {"id": "b", "prompt": "-"}], batch="left")
        orphans = Orphans(raw)
        assert orphans.chunks() == {}
        (message,) = take(connection, 1, ("route",))
        assert list(orphans.chunks().values()) == [["a", "b"]]
        orphans.killed("r0-1", at=100.0)
        orphans.tend(100.1)
        assert orphans.jobs == {}
        orphans.tend(100.0 + LOOK_AGAIN_SECONDS)
        assert orphans.jobs == {"a": ("r0-1", 100.0), "b": ("r0-1", 100.0)}
        message.ack()
        assert orphans.chunks() == {}


def test_what_the_other_router_finished_meanwhile_is_none(settings: Settings) -> None:
    with (
        Client(settings) as client,
        make_app(settings).connection_for_read() as connection,
        redis.Redis.from_url(settings.url) as raw,
    ):
        client.submit(id="a", prompt="-")
        orphans = Orphans(raw)
        (message,) = take(connection, 1, ("route",))
        orphans.killed("r0-1", at=100.0)
        message.ack()
        orphans.tend(101.0)
        assert orphans.jobs == {}
