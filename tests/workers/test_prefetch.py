"""What Celery's consumer is told of the pool's slots; a real one is told in `test_capacity.py`."""

from typing import Any

import pytest

from workers.prefetch import Prefetch


class Consumer:
    """Records how its prefetch count is changed."""

    def __init__(self) -> None:
        self.changes: list[int] = []

    def _update_prefetch_count(self, change: int) -> None:
        self.changes.append(change)


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
