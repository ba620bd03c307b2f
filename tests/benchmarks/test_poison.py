"""The verdict on a pile with poison in it."""

import pytest

from batchyard.dead import Letter
from batchyard.result import ErrorInfo, Result
from batchyard.states import State
from benchmarks.poison import MARK, SIGNAL, body_of, judged, prompts


def ended(job_id: str, code: str | None = None) -> Result:
    if code is None:
        return Result(job_id=job_id, state=State.SUCCESS, text="x")
    return Result(job_id=job_id, state=State.FAILURE, error=ErrorInfo(code=code, message="x"))


def letter(job_id: str, exit: str = SIGNAL) -> Letter:
    return Letter(id=job_id, kind="poison", job_id=job_id, queue="model.m", reason="x", exit=exit)


GOOD = [ended("a"), ended("bad", "poison"), ended("b")]


def test_only_the_marked_ones_are_marked() -> None:
    pile = list(prompts(3, [1], ["text"]))
    assert [MARK in str(job["prompt"]) for job in pile] == [False, True, False]
    assert len({str(job["prompt"]) for job in pile}) == 3


def test_it_holds_where_all_others_succeed_and_the_marked_ones_are_dead_letters() -> None:
    run = judged("x", GOOD, ["bad"], [letter("bad")], 2, 1.0, 0)
    assert (run.holds, run.succeeded, run.buried) == (True, 2, 1)
    assert "holds" in body_of([run])


@pytest.mark.parametrize(
    "results, letters, left",
    [
        ([ended("a", "engine_lost"), *GOOD[1:]], [letter("bad")], 0),
        ([ended("a", "poison"), *GOOD[1:]], [letter("bad"), letter("a")], 0),
        ([ended("a"), ended("bad"), ended("b")], [], 0),
        (GOOD, [], 0),
        (GOOD, [letter("bad", "signal SIGKILL")], 0),
        (GOOD, [letter("bad")], 1),
        ([*GOOD[:2], ended("b", "cancelled")], [letter("bad")], 0),
    ],
    ids=["other error", "wrongly blamed", "not found", "no letter", "other signal", "left over", "cancelled"],
)
def test_it_fails_otherwise(results: list[Result], letters: list[Letter], left: int) -> None:
    run = judged("x", results, ["bad"], letters, 2, 1.0, left)
    assert not run.holds
    assert "FAILS" in body_of([run])
