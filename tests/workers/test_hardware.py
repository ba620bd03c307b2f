"""The hardware command: what it prints on this machine, and how it describes a GPU."""

import os
import subprocess
import sys

import pytest

from batchyard.catalogue import load_catalogue
from batchyard.settings import Settings
from workers.gpu import Gpu
from workers.hardware import machine_lines, main, plan
from workers.profile import Cpu

P40 = Gpu(
    0, "GPU-a", "Tesla P40", 24 << 30, 23 << 30, (6, 1),
    driver="580.95.05", cuda=(13, 0), pcie=(3, 16), power_limit=250.0,
)  # fmt: skip


@pytest.fixture
def yard(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BATCHYARD_MODELS", str(settings.models))
    monkeypatch.setenv("BATCHYARD_HARDWARE", str(settings.hardware))
    return settings


def test_it_prints_each_setting_with_its_source(yard: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "none", "--model", "chat", "--profile", "cpu_x86"]) == 0
    printed = capsys.readouterr().out
    assert "profile cpu_x86" in printed
    rows = [line.split() for line in printed.splitlines()]
    assert ["n_batch", "256", "profile", "cpu_x86"] in rows
    assert ["type_k", "f16", "engine"] in rows
    assert "model chat (llama_cpp): weights" in printed and "model defect_detect" not in printed


def test_an_unknown_model_or_profile_is_one_line_and_status_2(
    yard: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--model", "nothing"], ["--gpu", "none", "--profile", "nothing"]):
        assert main(arguments) == 2
        assert "'nothing'" in capsys.readouterr().err


def test_a_gpu_is_described_by_what_nvml_says() -> None:
    [_, line] = machine_lines([P40], Cpu("x86_64"), ["0000:02:00.0"])
    assert line == (
        "GPU 0 Tesla P40 GPU-a: compute capability 6.1, 23.0 of 24.0 GiB free, "
        "driver 580.95.05 (CUDA up to 13.0), PCIe 3 x16, 250 W"
    )


def test_gpus_that_no_driver_runs_are_told_with_the_remedy() -> None:
    [_, line] = machine_lines([], Cpu("x86_64"), ["0000:02:00.0"])
    assert "0 of 1 GPUs (0000:02:00.0)" in line and "R580" in line
    assert machine_lines([], Cpu("x86_64"), [])[1] == "no NVIDIA GPU"


def test_the_plan_is_commands_to_run(settings: Settings) -> None:
    models = load_catalogue(settings.models).model_list
    gpus = [P40, Gpu(1, "GPU-b", "Tesla P40", 24 << 30, 20 << 30, (6, 1))]
    lines = plan(settings, models, gpus).splitlines()
    assert lines[0].startswith("python -m workers --model defect_detect --gpu GPU-a   # ")
    assert lines[1].startswith("python -m workers --model chat --gpu GPU-b   # ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--gpu", "GPU-none"], "0 GPUs match: 'GPU-none'"), (["--profile", "p41"], "no profile 'p41'")],
)
def test_a_worker_names_what_is_not_there_and_ends_with_status_2(
    settings: Settings, arguments: list[str], words: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "workers", "--model", "chat", *arguments],
        cwd=settings.models.parent.parent,
        env=os.environ | {"BATCHYARD_REDIS_URL": settings.url},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert words in ended.stderr


def test_a_worker_for_endpoints_and_the_hardware_command_need_neither_numpy_nor_llama_cpp() -> None:
    """The extra `remote` brings neither."""
    without = "import sys; sys.modules['numpy'] = sys.modules['llama_cpp'] = None; "
    for module in ("workers.hardware", "workers.__main__", "workers.remote.loader"):
        subprocess.run([sys.executable, "-c", f"{without}import {module}"], check=True, timeout=60)
