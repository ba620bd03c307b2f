"""Recovery: from the kill to the next sign of a job that was in the killed one; and needless reruns."""

from itertools import islice

import pytest

from benchmarks.chaos.dealer import Dealt
from benchmarks.chaos.faults import Fault, Kind
from benchmarks.chaos.ledger import Record, Seen
from benchmarks.chaos.pieces import pieces
from benchmarks.chaos.recovery import Span, router_recoveries, summary, worker_recoveries
from benchmarks.chaos.reruns import reruns

KILLS = {"w0-1": 10.0}


def record(*seen: tuple[float, str, str]) -> Record:
    (piece,) = islice(pieces(1, []), 1)
    return Record(piece, handed=0.0, seen=[Seen(*one) for one in seen])


def seconds(*seen: tuple[float, str, str]) -> list[float]:
    return [one.seconds for one in worker_recoveries(KILLS, [record(*seen)], [])]


def test_until_another_worker_has_started_it() -> None:
    again = (13.2, "STARTED", "w1-1")
    assert seconds((9.0, "STARTED", "w0-1"), again, (14.0, "SUCCESS", "w1-1")) == [pytest.approx(3.2)]


def test_until_its_result_where_the_second_start_was_not_seen() -> None:
    assert seconds((9.0, "STARTED", "w0-1"), (13.5, "SUCCESS", "w0-2")) == [pytest.approx(3.5)]


@pytest.mark.parametrize(
    "seen",
    [
        [(8.0, "STARTED", "w0-1"), (9.0, "STARTED", "w1-1"), (13.0, "SUCCESS", "w1-1")],  # had left it before
        [(9.9, "STARTED", "w0-1"), (10.1, "SUCCESS", "w0-1")],  # finished by it, and seen a moment later
        [(9.0, "STARTED", "w0-1"), (10.5, "REVOKED", "")],  # cancelled meanwhile
        [(9.0, "STARTED", "w1-1"), (13.0, "SUCCESS", "w1-1")],  # in another one
        [(9.0, "STARTED", "w0-1")],  # lost: the verdict says so
    ],
)
def test_what_was_not_in_it_does_not_count(seen: list[tuple[float, str, str]]) -> None:
    assert seconds(*seen) == []


def test_a_job_can_be_in_two_killed_workers() -> None:
    seen = [(9.0, "STARTED", "w0-1"), (13.0, "STARTED", "w1-1"), (19.0, "SUCCESS", "w2-1")]
    found = worker_recoveries({"w0-1": 10.0, "w1-1": 14.0}, [record(*seen)], [])
    assert [(one.victim, one.seconds) for one in found] == [("w0-1", 3.0), ("w1-1", 5.0)]


def test_of_a_routers_chunk_until_it_is_routed() -> None:
    one = record((9.0, "QUEUED", ""), (12.0, "ROUTED", ""), (13.0, "SUCCESS", "w0-1"))
    (found,) = router_recoveries({one.piece.id: ("r0-1", 10.0)}, [one], [])
    assert (found.victim, found.seconds) == ("r0-1", 2.0)
    assert router_recoveries({one.piece.id: ("r0-1", 12.5)}, [one], []) == []


def test_those_during_which_redis_was_away_are_marked() -> None:
    one = record((9.0, "STARTED", "w0-1"), (13.0, "SUCCESS", "w1-1"))
    assert not worker_recoveries(KILLS, [one], [Span(5.0, 9.9), Span(13.1, 14.0)])[0].disturbed
    assert worker_recoveries(KILLS, [one], [Span(9.0, 10.1)])[0].disturbed


def test_the_distribution_is_of_all_samples() -> None:
    one = record((9.0, "STARTED", "w0-1"), (13.0, "SUCCESS", "w1-1"))
    assert summary(worker_recoveries(KILLS, [one], [])) == {
        "jobs": 1, "p50": 3.0, "p90": 3.0, "p99": 3.0, "max": 3.0
    }  # fmt: skip


def dealt(kind: Kind, target: str, at: float, seconds: float = 0.0) -> Dealt:
    return Dealt(Fault(0, kind, 0, 0.0, seconds, whole=False), target, at)


MOVED = ((9.0, "STARTED", "w0-1"), (13.0, "STARTED", "w1-1"), (14.0, "SUCCESS", "w1-1"))


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [dealt(Kind.WORKER_KILL, "w1-1", 10.0)],  # another one
        [dealt(Kind.WORKER_KILL, "w0-1", 13.5)],  # afterwards
        [dealt(Kind.WORKER_STOP, "w0-1", 10.0, seconds=2.0)],  # its lease goes on
        [dealt(Kind.ENGINE_KILL, "w0-1", 10.0)],  # it runs its jobs again itself
    ],
)
def test_a_job_run_again_though_its_worker_lived(faults: list[Dealt]) -> None:
    (found,) = reruns([record(*MOVED)], faults, [], lease=3.0)
    assert (found.first, found.then, found.disturbed) == ("w0-1", "w1-1", False)
    assert reruns([record(*MOVED)], faults, [Span(8.0, 8.5)], lease=3.0)[0].disturbed


@pytest.mark.parametrize(
    "fault",
    [
        dealt(Kind.WORKER_KILL, "w0-1", 10.0),
        dealt(Kind.WORKER_TERM, "w0-1", 10.0),
        dealt(Kind.WORKER_STOP, "w0-1", 9.5, seconds=4.0),
    ],
)
def test_a_job_that_was_taken_from_its_worker(fault: Dealt) -> None:
    assert reruns([record(*MOVED)], [fault], [], lease=3.0) == []


def test_a_job_that_stayed_where_it_was() -> None:
    assert reruns([record((9.0, "STARTED", "w0-1"), (10.0, "SUCCESS", "w0-1"))], [], [], lease=3.0) == []


def test_a_stopped_worker_that_ends_its_job_before_the_one_that_took_it_over() -> None:
    stop = dealt(Kind.WORKER_STOP, "w0-1", 9.5, seconds=4.0)
    seen = [(9.0, "STARTED", "w0-1"), (13.0, "STARTED", "w1-1"), (14.0, "SUCCESS", "w0-1")]
    assert reruns([record(*seen)], [stop], [], lease=3.0) == []
