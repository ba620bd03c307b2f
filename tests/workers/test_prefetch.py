"""What Celery's consumer is told of the pool's slots; a real one is told in `test_capacity.py`."""

from typing import Any

import pytest

from workers.prefetch import Prefetch


class Consumer:
    """Records how its prefetch count is changed, and what it consumes; it is its own app, too."""

    def __init__(self, *queues: str) -> None:
        self.changes: list[int] = []
        self.consume_from = dict.fromkeys(queues)

    @property
    def app(self) -> "Consumer":
        return self

    amqp = queues = app

    def _update_prefetch_count(self, change: int) -> None:
        self.changes.append(change)

    def cancel_task_queue(self, queue: str) -> None:
        del self.consume_from[queue]

    def add_task_queue(self, queue: str) -> None:
        self.consume_from[queue] = None


@pytest.fixture
def prefetch() -> Prefetch:
    return Prefetch(8)


def test_changes_are_told_once(prefetch: Prefetch) -> None:
    consumer = Consumer()
    prefetch.follow(consumer)
    for slots in (5, 5, 6):
        prefetch.resize(slots)
    prefetch.resize()
    assert consumer.changes == [-3, 1, 2]
    assert prefetch.limit == 8


def test_it_stays_between_one_and_all_slots(prefetch: Prefetch) -> None:
    limits: list[Any] = []
    for slots in (0, 100):
        prefetch.resize(slots)
        limits.append(prefetch.limit)
    assert limits == [1, 8]


def test_what_changes_without_a_connection_is_told_with_the_next(prefetch: Prefetch) -> None:
    first, second = Consumer(), Consumer()
    prefetch.follow(first)
    prefetch.follow(None)
    prefetch.resize(5)
    prefetch.resize(4)
    prefetch.follow(second)
    assert (first.changes, second.changes) == ([], [-4])


def test_the_pool_may_want_fewer_than_the_engine(prefetch: Prefetch) -> None:
    consumer = Consumer()
    prefetch.follow(consumer)
    prefetch.narrow(3)
    prefetch.resize(5)
    prefetch.narrow(2)
    prefetch.narrow(None)
    assert consumer.changes == [-5, -1, 3]
    assert prefetch.limit == 5


def test_a_pause_leaves_the_queues_and_the_end_of_it_comes_back(prefetch: Prefetch) -> None:
    consumer = Consumer("model.m")
    prefetch.follow(consumer)
    prefetch.pause(True)
    prefetch.pause(True)
    assert list(consumer.consume_from) == []
    prefetch.pause(False)
    assert list(consumer.consume_from) == ["model.m"]
    assert consumer.changes == []


def test_a_pause_outlasts_a_lost_connection(prefetch: Prefetch) -> None:
    consumer = Consumer("model.m")
    prefetch.follow(consumer)
    prefetch.pause(True)
    prefetch.follow(None)
    prefetch.pause(False)
    assert list(consumer.consume_from) == []
    prefetch.follow(consumer)
    assert list(consumer.consume_from) == ["model.m"]
