"""A classifier on a GPU loads alone and keeps to its budget; here without one, over plain values."""

import asyncio
import fcntl
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from workers.engine.errors import EngineError
from workers.onnx.loader import load
from workers.onnx.model import OnnxModel


def model(**more: Any) -> OnnxModel:
    return OnnxModel.model_validate({"engine": "onnx", "model_name": "m", "model_path": "m.onnx"} | more)


def test_the_budget_less_the_margin_bounds_the_arena_on_the_gpu_alone() -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert model(execution_providers=both, memory_budget=2 << 30).provider_options() == [
        {"gpu_mem_limit": 3 << 29},
        {},
    ]
    assert model(execution_providers=both).provider_options() == [{}, {}]
    assert model(memory_budget=1 << 20).provider_options() == [{}]
    with pytest.raises(EngineError, match="memory_budget is 512 MiB") as caught:
        model(execution_providers=both, memory_budget=512 << 20).provider_options()
    assert caught.value.field == "memory_budget"


def test_it_loads_under_the_lock(
    classifier_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # the loader stops at the tokenizer until somebody writes one into the pipe
    pipe, lock = tmp_path / "tokenizer.json", tmp_path / "a.lock"
    os.mkfifo(pipe)
    frame = {
        "engine": "onnx", "model_name": "m", "model_path": str(classifier_path), "tokenizer_path": str(pipe),
        "n_threads": 1, "load_locks": [str(lock)],
    }  # fmt: skip
    loading = threading.Thread(target=lambda: asyncio.run(load(frame)))
    loading.start()
    with pipe.open("w", encoding="utf-8") as tokenizer:
        with lock.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tokenizer.write(classifier_path.with_name("tokenizer.json").read_text(encoding="utf-8"))
    loading.join()
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
