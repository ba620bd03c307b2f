"""Which faults are dealt when: decided by the seed, every kind among them, spread over the jobs."""

from collections import Counter

from benchmarks.chaos.faults import STOPS, Kind, counts, plan


def test_a_seed_replays_its_faults() -> None:
    assert plan(50, 1000, 3, 3.0) == plan(50, 1000, 3, 3.0)
    assert plan(50, 1000, 3, 3.0) != plan(50, 1000, 4, 3.0)


def test_every_kind_is_dealt_where_there_is_room() -> None:
    for seed in range(20):
        assert Counter(fault.kind for fault in plan(9, 90, seed, 3.0)) == dict.fromkeys(Kind, 1)
    assert sum(counts(plan(200, 20_000, 1, 3.0)).values()) == 200


def test_they_are_spread_over_the_jobs_in_order() -> None:
    due = [fault.after for fault in plan(100, 20_000, 1, 3.0)]
    assert due == sorted(due)
    assert all(number * 200 <= after <= (number + 1) * 200 for number, after in enumerate(due))


def test_stops_are_shorter_and_longer_than_the_lease() -> None:
    stops = [fault for fault in plan(400, 400, 1, 3.0) if fault.kind in STOPS]
    assert {fault.seconds > 3.0 for fault in stops} == {True, False}
    assert all(2.2 * 3.0 >= fault.seconds > 0 and not 2.1 < fault.seconds < 3.9 for fault in stops)


def test_a_target_is_always_one_of_those_there() -> None:
    for fault in plan(200, 200, 1, 3.0):
        assert {fault.pick(there) < there for there in (1, 2, 3)} == {True}
