"""The image benchmark, on tiny models: each kind of traffic runs, and the cache does what it is for."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import images
from tests.engine.tiny_model import write_tiny_model
from tests.engine.tiny_vision import write_llava


def test_every_kind_of_traffic_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, mmproj = write_tiny_model(tmp_path / "tiny.gguf"), write_llava(tmp_path / "mmproj.gguf")
    shape = [
        "--jobs",
        "6",
        "--again",
        "2",
        "--slots",
        "2",
        "--side",
        "56",
        "--n-ctx",
        "256",
        "--max-tokens",
        "4",
    ]
    files = ["--model", str(model), "--mmproj", str(mmproj), "--json", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", ["images", *shape, *files, "--threads", "1", "--rounds", "2"])
    images.main()
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    encodes = {name: one["encodes"] for name, one in figures.items()}
    assert encodes["every picture new, no cache"] == [6, 6]
    assert encodes["2 pictures, cached"] == [2, 0]
    assert encodes["2 pictures, cached, half text"] == [0, 0]
    assert all(len(one["jobs_per_s"]) == 2 for one in figures.values())
    assert "images encoded" in capsys.readouterr().out
