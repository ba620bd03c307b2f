"""A file of settings is plain data, or refused by name; it is never what it does not seem to be."""

from pathlib import Path

import pytest

from batchyard.errors import InvalidConfig
from batchyard.yaml_file import MAX_BYTES, parse_yaml, read_yaml


def refused(text: str | bytes) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        parse_yaml(text.encode() if isinstance(text, str) else text, "f.yaml")
    assert str(caught.value.field).startswith("f.yaml")
    assert caught.value.remedy
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()
    return caught.value


def test_aliases_and_merges_are_read() -> None:
    text = b"a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [*a, {z: 1}]}\n"
    assert parse_yaml(text, "f") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 2},
        "c": {"x": 3, "y": 2},
        "d": {"x": 1, "y": 2, "z": 1},
    }


def bomb(levels: int, line: str) -> str:
    lines = ["l0: &l0 {x: y}"]
    lines += [line.format(at, at - 1) for at in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "line",
    [
        "l{0}: &l{0} [*l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}]",
        "l{0}: &l{0} {{<<: [*l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}, *l{1}]}}",
    ],
    ids=["lists", "merges"],
)
def test_aliases_that_multiply_are_refused_before_they_are_written_out(line: str) -> None:
    assert "100,000 values" in refused(bomb(40, line)).message


def test_an_alias_within_itself_is_refused() -> None:
    assert "within what it names" in refused("a: &a [*a]").message


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x: [{a: 1, a: 1}]", "a: 1\n'a': 2"])
def test_a_key_that_is_there_twice_is_named(text: str) -> None:
    assert "the key 'a' is there twice" in refused(text).message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "- " * 5000,
        "a: !!python/object/apply:os.getpid []",
        "a: !!int x",
        "a: !!int ''",
        "a: !!float x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!binary aGVsbG8=",
        "a: !!set {x}",
        "a: " + "9" * 5000,
        "a: 0x" + "f" * 5000,
        "a: .nan",
        "a: .inf",
        "a: 1" + ":59" * 400 + ".5",
        'a: "\\ud800"',
        'a: "\\U00110000"',
        "? [a]\n: 1",
        "a: b: c",
        "--- 1\n--- 2",
        b"\xff\xfe",
        b"a: \x00",
    ],
    ids=range(22),
)
def test_what_json_could_not_say_is_an_error_of_the_file(text: str | bytes) -> None:
    refused(text)


def test_dates_stay_text() -> None:
    assert parse_yaml(b"version: 2026-01-01\nbad: 2026-13-45", "f") == {
        "version": "2026-01-01",
        "bad": "2026-13-45",
    }


def test_a_file_beyond_the_limit_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"- x\n" * (MAX_BYTES // 4))
    assert len(read_yaml(path)) == MAX_BYTES // 4  # type: ignore[arg-type]
    path.write_bytes(b"[" * 100_000_000)
    with pytest.raises(InvalidConfig, match="bytes"):
        read_yaml(path)


def test_variables_are_filled_in_but_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NAME", "x")
    text = b"a: [os.environ/SOME_NAME]\napi_key: os.environ/SOME_NAME"
    assert parse_yaml(text, "f") == {"a": ["x"], "api_key": "os.environ/SOME_NAME"}
    monkeypatch.delenv("SOME_NAME")
    assert "SOME_NAME" in refused(text).message


def test_a_variable_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NAME", "\udcff")
    assert "SOME_NAME is not UTF-8" in refused("a: os.environ/SOME_NAME").message
