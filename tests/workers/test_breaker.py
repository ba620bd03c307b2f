from workers.breaker import LONGEST_SECONDS, Breaker, Permit, State


def entered(breaker: Breaker, now: float) -> Permit:
    permit = breaker.enter(now)
    assert permit is not None
    return permit


def tripped(now: float = 0.0, cooldown: float = 10.0) -> Breaker:
    breaker = Breaker(1, cooldown)
    breaker.fail(entered(breaker, now), now)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(3, 10.0)
    for result in "ff.ff":
        permit = entered(breaker, 0.0)
        if result == "f":
            breaker.fail(permit, 0.0)
        else:
            breaker.succeed(permit)
    assert breaker.state is State.CLOSED
    breaker.fail(entered(breaker, 5.0), 5.0)
    assert breaker.state is State.OPEN
    assert breaker.enter(14.9) is None
    assert breaker.left(9.0) == 6.0


def test_one_probe_at_a_time_after_the_cooldown() -> None:
    breaker = tripped()
    assert breaker.left(10.0) == 0.0
    probe = entered(breaker, 10.0)
    assert breaker.state is State.HALF_OPEN
    assert breaker.enter(10.0) is None
    assert breaker.probing
    breaker.succeed(probe)
    assert not breaker.probing
    assert breaker.state is State.CLOSED
    assert entered(breaker, 10.0) and entered(breaker, 10.0)


def test_a_failed_probe_doubles_the_cooldown_up_to_a_bound_and_success_resets_it() -> None:
    breaker, now = tripped(), 10.0
    for cooldown in (20.0, 40.0, 80.0, 160.0, LONGEST_SECONDS, LONGEST_SECONDS):
        breaker.fail(entered(breaker, now), now)
        assert breaker.left(now) == cooldown
        now += cooldown
    breaker.succeed(entered(breaker, now))
    breaker.fail(entered(breaker, now), now)
    assert breaker.left(now) == 10.0


def test_a_probe_that_is_given_up_makes_room_for_another() -> None:
    breaker = tripped()
    breaker.abandon(entered(breaker, 10.0))
    assert entered(breaker, 10.0)


def test_what_was_asked_before_it_opened_says_nothing_any_more() -> None:
    breaker = Breaker(1, 10.0)
    early, late = entered(breaker, 0.0), entered(breaker, 0.0)
    breaker.fail(early, 0.0)
    probe = entered(breaker, 10.0)
    breaker.succeed(late)
    breaker.abandon(late)
    assert breaker.state is State.HALF_OPEN
    assert breaker.enter(10.0) is None
    breaker.fail(probe, 10.0)
    assert breaker.left(10.0) == 20.0
