"""The fuzzer itself: what fails is found, kept, counted and run again; what hangs is stopped."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from batchyard.errors import InvalidJob
from tests.fuzz.__main__ import replay, run_piece
from tests.fuzz.child import has_atheris
from tests.fuzz.mutate import mutate
from tests.fuzz.oracle import Hang, Nonsense, Target, check_error, limited, same_values
from tests.fuzz.session import Report, Session, current_input
from tests.fuzz.targets import TARGETS


def target(run: Callable[[bytes], bool]) -> Target:
    return Target("some", run, lambda: [b"{}"], "json", 1)


def forever(_data: bytes) -> bool:
    while True:
        try:
            sum(range(1000))
        except Exception:  # noqa: BLE001, S112  # as broad as a parser could be: it must not catch the limit
            continue


def test_an_input_that_takes_too_long_is_stopped_and_kept(tmp_path: Path) -> None:
    with pytest.raises(Hang):
        limited(target(forever), b"x", 0.05)


def test_a_session_keeps_each_place_that_fails_once_and_goes_on(tmp_path: Path) -> None:
    def run(data: bytes) -> bool:
        if data.startswith(b"a"):
            raise KeyError(data)
        if data.startswith(b"b"):
            raise Nonsense("b")
        return True

    session = Session(target(run), tmp_path, 6, 60.0)
    for data in (b"a1", b"c", b"b", b"a2"):
        session.run(data)
    assert not session.over
    session.run(b"c")
    session.run(b"last")
    assert session.over
    session.end()
    report = Report.read(tmp_path / "some.piece.json", "some")
    assert (report.inputs, report.accepted, len(report.failures)) == (6, 3, 2)
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.input")) == [b"a1", b"b"]
    assert current_input(tmp_path, "some") == b"last"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"a": True}, {"a": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": "5"}, {"a": 5}),
        ({"a": 1}, {}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": None}, {"a": 0}),
        ({"a": {"b": "x"}}, {"a": {"b": "y"}}),
    ],
)
def test_what_was_taken_for_something_else_is_nonsense(given: object, kept: object) -> None:
    with pytest.raises((Nonsense, ValueError)):
        same_values(given, kept)
    same_values(given, given)


@pytest.mark.parametrize(
    "error",
    [
        InvalidJob("x" * 5000, remedy="r"),
        InvalidJob("two\nlines", remedy="r"),
        InvalidJob("m", field="\ud800", remedy="r"),
        InvalidJob("no remedy"),
        InvalidJob("", remedy="r"),
    ],
    ids=range(5),
)
def test_an_error_that_nobody_can_read_is_found(error: InvalidJob) -> None:
    with pytest.raises(Nonsense):
        check_error(error)
    check_error(InvalidJob("m", field="f", remedy="r"))


@pytest.mark.parametrize("one", TARGETS.values(), ids=list(TARGETS))
def test_mutations_are_the_same_for_the_same_seed_and_bounded(one: Target) -> None:
    seeds = one.seeds()
    first, second = random.Random(1), random.Random(1)
    made = [mutate(seeds[0], one.kind, first, seeds, one.max_len) for _ in range(200)]
    assert made == [mutate(seeds[0], one.kind, second, seeds, one.max_len) for _ in range(200)]
    assert max(map(len, made)) <= one.max_len
    assert len(set(made)) > 50


def test_the_long_form_goes_on_where_it_stopped(tmp_path: Path) -> None:
    engine = "atheris" if has_atheris() else "seeds"
    for inputs, in_all in ((300, 300), (200, 500)):
        report = run_piece(TARGETS["image"], tmp_path, inputs, 60.0, 5, engine)
        assert (report.inputs, report.failures) == (in_all, {})
    assert (report.edges is None) == (engine == "seeds")


def test_a_kept_input_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data, said in ((TARGETS["image"].seeds()[0], "accepted"), (b"", "refused")):
        file = tmp_path / "image-x.input"
        file.write_bytes(data)
        assert replay(file) == 0
        assert capsys.readouterr().out.startswith(said)
