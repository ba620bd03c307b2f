"""A build that dies on several rows is found out by a child, not by the worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.engine import smoke
from workers.engine.errors import EngineError
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook


def settings(path: Path) -> EngineModel:
    return EngineModel("tiny", str(path), n_threads=1)


def test_a_real_child_proves_this_build(q4_model: Path, tmp_path: Path) -> None:
    assert smoke.prove(settings(q4_model), 1, Notebook(tmp_path / "notes.json")) == smoke.SMOKE_OK


@pytest.mark.parametrize(
    ("codes", "expected"),
    [({True: 0}, smoke.SMOKE_OK), ({True: -11, False: 0}, smoke.SMOKE_NO_EXTRA)],
)
def test_a_death_by_signal_falls_back_and_is_remembered(
    q4_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: dict[bool, int], expected: str
) -> None:
    asked: list[bool] = []

    def child(_settings: EngineModel, _threads: int, *, use_extra_bufts: bool) -> tuple[int, None]:
        asked.append(use_extra_bufts)
        return codes[use_extra_bufts], None

    monkeypatch.setattr(smoke, "_run_child", child)
    notes = Notebook(tmp_path / "notes.json")
    for _ in range(2):
        assert smoke.prove(settings(q4_model), 1, notes) == expected
    assert asked == list(codes)


def test_a_model_wholly_on_a_gpu_is_not_tried(tmp_path: Path) -> None:
    model = EngineModel("tiny", str(tmp_path / "absent.gguf"), n_gpu_layers=-1)
    assert smoke.prove(model, 1, Notebook(tmp_path / "notes.json"), on_gpu=True) == smoke.SMOKE_OK


@pytest.mark.parametrize("code", [-11, 1])
def test_a_model_that_never_decodes_is_refused(
    q4_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(smoke, "_run_child", lambda *_args, **_named: (code, None))
    with pytest.raises(EngineError) as caught:
        smoke.prove(settings(q4_model), 1, Notebook(tmp_path / "notes.json"))
    assert caught.value.code == "model_file_invalid"


def test_the_child_says_when_a_model_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + bytes(200))
    code, error = smoke._run_child(settings(path), 1, use_extra_bufts=True)
    assert code > 0
    assert error is not None
    assert (error.code, error.field) == ("model_file_invalid", "model")
    assert str(path) in error.message
