"""What becomes of messages when their consumer's connection is lost, against a real Redis."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

from batchyard.app import make_app
from batchyard.names import UNACKED_KEY
from batchyard.queue_scripts import RENEW
from batchyard.settings import Settings
from batchyard.wire import task_message
from tests.batchyard.consumers import take
from tests.yard.cut import Cable

INDEX = f"{UNACKED_KEY}:index"


@pytest.fixture
def raw(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url, decode_responses=True) as raw:
        raw.lpush("q", task_message("t", "id-1", {}, "q", 0))
        yield raw


@pytest.fixture
def lost(settings: Settings) -> Iterator[Connection]:
    with make_app(settings).connection_for_read() as connection:
        yield connection


@pytest.fixture
def new(settings: Settings) -> Iterator[Connection]:
    with make_app(settings).connection_for_read() as connection:
        yield connection


def kept(connection: Connection) -> Any:
    """The one message, held by nobody: its task runs, its connection is gone."""
    [message] = take(connection, 1)
    message.channel.qos.let_go(message.delivery_tag)
    connection.close()
    return message


def test_a_message_whose_task_runs_is_taken_over_by_the_next_connection(
    lost: Connection, new: Connection, raw: redis.Redis
) -> None:
    message = kept(lost)
    assert raw.llen("q") == 0
    raw.zadd(INDEX, {message.delivery_tag: 1.0})
    new.default_channel.take_over([message])
    assert new.default_channel.qos.tags() == [message.delivery_tag]
    new.default_channel.qos.restore_visible()  # its lease was renewed
    assert raw.llen("q") == 0
    message.ack()
    assert raw.hlen(UNACKED_KEY) == 0
    assert new.default_channel.qos.tags() == []


def test_a_message_that_others_have_meanwhile_stays_theirs(
    lost: Connection, new: Connection, raw: redis.Redis
) -> None:
    message = kept(lost)
    raw.zadd(INDEX, {message.delivery_tag: 1.0})
    new.default_channel.qos.restore_visible()
    new.default_channel.take_over([message])
    assert new.default_channel.qos.tags() == []
    message.ack()
    assert raw.llen("q") == 1


def test_an_acknowledgement_that_does_not_get_through_costs_no_room(
    settings: Settings, raw: redis.Redis
) -> None:
    with Cable(settings.url) as cable:
        app = make_app(settings.model_copy(update={"redis_url": cable.url}))
        with app.connection_for_read() as connection:
            [message] = take(connection, 1)
            message.channel.basic_qos(0, 1, False)
            cable.cut()
            with pytest.raises(redis.ConnectionError):
                message.ack()
            assert message.channel.qos.has_room()
            assert message.channel.qos.tags() == []
            cable.mend()
    assert raw.zcard(INDEX) == 1  # its lease is left to end


@pytest.mark.parametrize(("renewed", "lapsed"), [(99.0, False), (96.0, True)])
def test_time_in_which_everybody_was_cut_off_does_not_count(
    lost: Connection, raw: redis.Redis, renewed: float, lapsed: bool
) -> None:
    """A lease lasts three seconds; the last look was at 100."""
    [message] = take(lost, 1)
    raw.zadd(INDEX, {message.delivery_tag: renewed})
    raw.hset(f"{INDEX}:looked", "at", 100.0)
    message.channel.qos.restore_visible()
    assert raw.llen("q") == lapsed


def test_who_comes_back_renews_by_the_clock_that_stood_still(lost: Connection, raw: redis.Redis) -> None:
    [message] = take(lost, 1)
    raw.hset(f"{INDEX}:looked", "at", 100.0)
    message.channel.qos.restore_visible()
    raw.eval(RENEW, 1, INDEX, message.delivery_tag)
    assert 100 <= float(raw.zscore(INDEX, message.delivery_tag)) < 200
    assert raw.llen("q") == 0
