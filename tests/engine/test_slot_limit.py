"""The bound on sequences in flight: falls when jobs are late, rises slowly, stays within its bounds."""

from workers.engine.slot_limit import SlotLimit


def settled(n_slots: int, target_p99_s: float) -> SlotLimit:
    """A limit whose first jobs, however late, are over."""
    limit = SlotLimit(n_slots, target_p99_s)
    assert not any(limit.finished(100.0 * target_p99_s) for _ in range(n_slots))
    assert limit.limit == n_slots
    return limit


def window(limit: SlotLimit, latency_s: float) -> int:
    """Finish one window's jobs (and those still under an old limit) at this latency; how many that were."""
    for count in range(1, 10_000):
        if limit.finished(latency_s):
            return count
    return 0


def test_without_a_target_every_slot_may_be_used() -> None:
    limit = SlotLimit(8)
    assert not any(limit.finished(100.0) for _ in range(100))
    assert limit.limit == 8


def test_a_window_of_late_jobs_cuts_the_limit() -> None:
    limit = settled(20, 1.0)
    assert window(limit, 2.0) == 20
    assert limit.limit == 14


def test_jobs_of_the_old_limit_do_not_cut_it_again() -> None:
    limit = settled(20, 1.0)
    window(limit, 2.0)
    assert not any(limit.finished(2.0) for _ in range(20))
    assert not any(limit.finished(2.0) for _ in range(13))
    assert limit.finished(2.0)
    assert limit.limit == 9


def test_it_rises_by_one_a_window_up_to_the_slots() -> None:
    limit = settled(20, 1.0)
    window(limit, 2.0)
    assert window(limit, 0.5) == 20 + 14
    assert limit.limit == 15
    while window(limit, 0.5):
        pass
    assert limit.limit == 20


def test_it_never_falls_below_one() -> None:
    limit = settled(3, 1.0)
    while window(limit, 2.0):
        pass
    assert limit.limit == 1


def test_one_late_job_in_a_hundred_is_within_a_p99() -> None:
    limit = settled(200, 1.0)
    for at in range(200):
        limit.finished(2.0 if at % 100 == 0 else 0.5)
    assert limit.limit == 200
    for at in range(200):
        limit.finished(2.0 if at % 60 == 0 else 0.5)
    assert limit.limit == 140


def test_it_settles_where_the_target_is_met() -> None:
    """Latency grows with the sequences in flight: 0.1 s each, target 1 s; the limit swings about 10."""
    limit = settled(64, 1.0)
    seen = []
    for _ in range(5000):
        limit.finished(0.1 * limit.limit)
        seen.append(limit.limit)
    late = seen[2000:]
    assert min(late) >= 6 and max(late) <= 11
