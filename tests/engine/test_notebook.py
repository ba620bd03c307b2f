"""Facts found out once."""

from __future__ import annotations

from pathlib import Path

from workers.engine.notebook import Notebook, file_identity, sha256_of


def test_a_fact_is_found_out_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def find_out() -> str:
        asked.append("x")
        return "fact"

    for _ in range(2):
        assert Notebook(tmp_path / "a" / "notes.json").remember("kind", "key", find_out) == "fact"
    assert asked == ["x"]
    assert Notebook(tmp_path / "a" / "notes.json").remember("other", "key", lambda: "b") == "b"


def test_a_damaged_notebook_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("[not json")
    assert Notebook(path).remember("kind", "key", lambda: "a") == "a"
    assert Notebook(path).remember("kind", "key", lambda: "b") == "a"


def test_a_place_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Notebook(tmp_path / "file" / "notes.json").remember("kind", "key", lambda: "a") == "a"


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"one")
    before = file_identity(path)
    path.write_bytes(b"other")
    assert file_identity(path) != before
    assert sha256_of(path) == "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
