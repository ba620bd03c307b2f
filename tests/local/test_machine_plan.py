"""Which workers the yard of one machine gets for a catalogue."""

import logging
from pathlib import Path

import pytest

from batchyard.settings import Settings
from local.fit import Placement
from local.yard import machine_plan

DRIVER = """
class NVMLError(Exception): pass
class Memory: total, free = 24 << 30, 23 << 30
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetMemoryInfo(handle): return Memory
def nvmlDeviceGetCudaComputeCapability(handle): return 6, 1
def nvmlSystemGetCudaDriverVersion(): return 12080
def nvmlSystemGetDriverVersion(): return "570.86.10"
def nvmlDeviceGetUUID(handle): return "GPU-of-this-test"
def nvmlDeviceGetName(handle): return "Tesla P40"
def nvmlDeviceGetCurrPcieLinkGeneration(handle): raise NVMLError
def nvmlDeviceGetEnforcedPowerLimit(handle): raise NVMLError
"""
"""NVML's binding on a machine with a P40, for child processes."""


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("BATCHYARD_MODELS", "BATCHYARD_HARDWARE"):
        monkeypatch.delenv(name, raising=False)
    return Settings(redis_url="redis://h")


@pytest.fixture
def with_p40(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pynvml.py").write_text(DRIVER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("with_p40")
def test_a_card_that_the_build_cannot_use_leaves_the_models_on_the_cpu(
    starter: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    workers = machine_plan(starter).workers
    assert workers == (Placement("defect_detect", None), Placement("chat", None))
    # the build of this environment is for the CPU alone, or does not find the card that is not there
    assert "chat goes to the CPU: " in caplog.text and "there is no GPU" not in caplog.text


def test_the_workers_own_plan_gives_the_card_and_none_forbids_it(with_p40: Path, starter: Settings) -> None:
    # a library that cannot be asked speaks against no card
    (with_p40 / "llama_cpp.py").write_text("raise ImportError", encoding="utf-8")
    assert {worker.gpu for worker in machine_plan(starter).workers} == {"GPU-of-this-test"}
    assert {worker.gpu for worker in machine_plan(starter, "none").workers} == {None}


def test_without_a_plan_all_models_go_to_the_cpu(
    starter: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "hardware.yaml"
    broken.write_text("profile_list: 3\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        plan = machine_plan(starter.model_copy(update={"hardware": broken}))
    assert {worker.gpu for worker in plan.workers} == {None} and len(plan.workers) == 2
    assert "no plan of GPUs" in caplog.text and "profile_list" in caplog.text


def test_an_endpoint_needs_no_file_and_a_classifier_its_own(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "kind.onnx").write_bytes(b"x")
    catalogue = tmp_path / "configs" / "models.yaml"
    catalogue.write_text(
        "model_list:\n"
        "  - {model_name: far, engine: openai, api_base: 'http://h/v1', model: x, api_key: os.environ/KEY}\n"
        "  - {model_name: kind, engine: onnx, model_path: models/kind.onnx}\n"
        "  - {model_name: gone, engine: onnx, model_path: models/gone.onnx}\n"
        "task_list: [{task: t}]\n",
        encoding="utf-8",
    )
    plan = machine_plan(Settings(redis_url="redis://h", models=catalogue, routing=catalogue))
    assert [(worker.model, worker.gpu) for worker in plan.workers] == [("far", None), ("kind", None)]
    assert "gone.onnx" in plan.skipped["gone"]
