"""`batchyard dead …` on a real Redis."""

import json
from collections.abc import Iterator

import pytest
import redis

from batchyard import dead, names, store
from batchyard.cli import main
from batchyard.states import State
from tests.batchyard.test_dead import accept, bury, letter, message_of, popped


@pytest.fixture
def raw(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """Two letters of batch b, one of batch c, one that is no job's."""
    monkeypatch.setenv("BATCHYARD_REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        accept(client, "line4-1", "line4-2", "other")
        for job_id, batch in [("line4-1", "b"), ("line4-2", "b"), ("other", "c")]:
            bury(client, letter(job_id, batch=batch), popped(client, message_of(job_id)))
        client.execute_command(*dead.raw_burial("route", b"hello", "no message of ours"))
        yield client


def left(raw: redis.Redis) -> set[str]:
    return {one.id for one in store.run(raw, dead.letters())}


def test_list_names_each_with_its_end(raw: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert any(line.startswith("line4-1\tpoison\tmodel.m\t") and "signal SIGABRT" in line for line in lines)
    assert main(["dead", "list", "--kind", "unprocessable"]) == 0
    assert "\tunprocessable\troute\t" in capsys.readouterr().out


def test_show_prints_the_message(raw: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead", "show", "line4-1"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert json.loads(shown["message"])["headers"]["id"] == "line4-1"
    assert main(["dead", "show", "nobody"]) == 2
    assert "[unknown_letter]" in capsys.readouterr().err


def test_retry_takes_patterns_and_says_what_it_cannot(
    raw: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead", "retry", "line4-*"]) == 0
    assert capsys.readouterr().out == "2 retried\n"
    assert raw.llen(names.priority_queue("model.m", 3)) == 2
    assert main(["dead", "retry", "--all"]) == 1
    out, err = capsys.readouterr()
    assert out == "1 retried\n"
    [stranger] = left(raw)
    assert err.startswith(f"{stranger}: it is no job of the yard")


def test_drop_keeps_the_result(raw: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead", "drop", "--batch", "b"]) == 0
    assert capsys.readouterr().out == "2 dropped\n"
    assert len(left(raw)) == 2
    assert left(raw) > {"other"}
    assert store.run(raw, store.states(["line4-1"])) == [State.FAILURE]


def test_nobody_means_all_by_saying_nothing(raw: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("retry", "drop"):
        assert main(["dead", command]) == 2
        assert "--all" in capsys.readouterr().err
        assert main(["dead", command, "nobody-*"]) == 2
    assert len(left(raw)) == 4
