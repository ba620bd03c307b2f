"""How long a submission waits for room, on a clock of its own."""

import logging

import pytest

from batchyard.errors import YardBusy
from batchyard.patience import LONGEST_PAUSE_S, SAY_AGAIN_S, Patience
from batchyard.submission import Pushed


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def busy(accepted: int = 0, retry_after: float = 2.0) -> Pushed:
    return Pushed(accepted, 0, busy=YardBusy("no room", retry_after=retry_after))


def test_it_waits_as_long_as_it_is_told_and_a_little_more() -> None:
    patience = Patience(None)
    pauses = [patience.pause(busy()) for _ in range(50)]
    assert all(2.0 <= pause <= 2.5 for pause in pauses)
    assert len(set(pauses)) > 1
    assert patience.pause(busy(retry_after=3600)) <= 1.25 * LONGEST_PAUSE_S
    assert patience.pause(Pushed(5, 0)) == 0.0


def test_without_patience_the_refusal_is_raised_and_says_what_is_in() -> None:
    patience = Patience(0)
    assert patience.pause(Pushed(500, 0)) == 0.0
    with pytest.raises(YardBusy) as caught:
        patience.pause(busy(accepted=3))
    assert caught.value.__notes__ == ["503 jobs were accepted before; they stay"]


def test_patience_ends_where_nothing_is_accepted_for_so_long() -> None:
    clock = Clock()
    patience = Patience(5, clock)
    clock.now += 100  # the caller's own time does not count
    assert patience.pause(busy()) >= 2
    clock.now += 4
    assert patience.pause(busy()) <= 1
    assert patience.pause(busy(accepted=1)) >= 2
    clock.now += 4
    patience.pause(busy())
    clock.now += 1
    with pytest.raises(YardBusy):
        patience.pause(busy())


def test_what_it_waits_for_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    patience = Patience(None, clock)
    with caplog.at_level(logging.WARNING, "batchyard"):
        for _ in range(10):
            patience.pause(busy(accepted=1))
            clock.now += 1
        assert [record.getMessage() for record in caplog.records] == [
            "waiting for room: [too_many_jobs] no room"
        ]
        clock.now += SAY_AGAIN_S
        patience.pause(busy())
    assert len(caplog.records) == 2


def test_celery_rebuilds_the_error_from_its_arguments() -> None:
    error = YardBusy("no room", field="tenant", remedy="wait", retry_after=7.5)
    again = type(error)(*error.args)
    assert again.as_dict() == error.as_dict()
    assert again.as_dict()["retry_after"] == 7.5
    assert (again.code, again.retryable) == ("too_many_jobs", True)
