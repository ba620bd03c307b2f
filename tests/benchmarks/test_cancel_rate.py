"""The measurement of a cancelled pile, on a small one."""

from batchyard.client import Client
from batchyard.settings import Settings
from benchmarks.cancel_rate import QUEUED, RUNNING, Cancellation, body_of, cancel_queued


def test_a_small_pile_is_cancelled_whole(settings: Settings) -> None:
    with Client(settings) as client:
        found = cancel_queued(client, 700)
    assert (found.cancelled, found.answered, found.empty) == (700, 0, None)
    assert found.returned > 0


def test_the_table_has_a_line_for_each_situation_that_was_measured() -> None:
    queued = Cancellation(QUEUED, 1000, 1000, 0, 0.5)
    running = [Cancellation(RUNNING, 1000, 990, 10, call, 3.0, 0.25) for call in (1.0, 2.0)]
    lines = [line.split() for line in body_of([queued, *running]).splitlines()]
    assert lines[2] == ["queued", "1,000", "0", "0.50", "-", "-"]
    assert lines[3][:5] == ["running", "1,000", "10", "(10-10)", "1.50"]
    assert lines[3][-4:] == ["0.25", "(0.25-0.25)", "3.00", "(3.00-3.00)"]
