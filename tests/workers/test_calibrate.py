"""The command on a real starter model, and what it says of files that cannot be used."""

import json
import re
from itertools import islice
from pathlib import Path

import pytest

from training.generate.text_cls import requests
from workers.calibrate import FEWEST_ROWS, Row, main, read_rows

ARGUMENTS = ["--model", "defect_detect", "--task", "text_cls", "--gpu", "none"]


@pytest.fixture(autouse=True)
def _shipped_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("BATCHYARD_MODELS", str(root / "configs/models.yaml"))


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def test_rows_through_the_engine_give_a_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [one.as_row() for one in islice(requests("test", 31), 60)]
    assert main([*ARGUMENTS, write(tmp_path / "rows.jsonl", rows)]) == 0
    said = capsys.readouterr().out
    assert "60 rows, 4 labels" in said
    accuracy = re.search(r"accuracy (\d+\.\d)%", said)
    fitted = re.search(r"choices_temperature: {text_cls: (\d+\.\d\d)}", said)
    assert accuracy is not None
    assert fitted is not None
    # the starter model is right on most held-out wordings, and too sure of itself
    assert 60 < float(accuracy[1]) < 100
    assert 1.2 < float(fitted[1]) < 6


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([{"text": "a", "label": "none"}], [], "say too little"),
        ([{"text": "a", "label": "rust"}], [], "rust"),
        ([{"text": "", "label": "none"}], [], "line 1"),
        ([{"prompt": "a", "label": "none"}], [], "line 1"),
        ([{"text": "a", "label": "none"}], ["--task", "faq"], "--choices"),
        ([{"text": "a", "label": "none"}], ["--task", "nothing"], "no task"),
        ([{"text": "a", "label": "none"}], ["--model", "nothing"], "no model"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, object]],
    arguments: list[str],
    words: str,
) -> None:
    assert main([*ARGUMENTS, *arguments, write(tmp_path / "rows.jsonl", rows)]) == 2
    assert words in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_a_text_may_hold_what_unicode_calls_a_line_break(tmp_path: Path) -> None:
    text = "first\u2028second\u2029third\u0085fourth"
    lines = [json.dumps({"text": text, "label": "none"}, ensure_ascii=False)] * FEWEST_ROWS
    path = tmp_path / "rows.jsonl"
    path.write_text("\r\n".join(lines) + "\n\n", encoding="utf-8")
    assert read_rows(path, ["soldering", "none"]) == [Row(text, 1)] * FEWEST_ROWS
