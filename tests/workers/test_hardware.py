"""The hardware command: what it prints on this machine, and how it describes a GPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchyard.catalogue import Catalogue, load_catalogue
from batchyard.entry import OnnxEntry, OpenaiEntry
from batchyard.settings import Settings
from workers.engine.build_facts import BuildFacts, Device
from workers.gpu import Gpu
from workers.hardware import commands, machine_lines, main, show
from workers.plan import plan
from workers.profile import Cpu
from workers.start import prepare

P40 = Gpu(
    0, "GPU-a", "Tesla P40", 24 << 30, 23 << 30, (6, 1),
    driver="580.95.05", cuda=(13, 0), pcie=(3, 16), power_limit=250.0,
)  # fmt: skip


P40_TOO = replace(P40, index=1, uuid="GPU-b", free=20 << 30)
CUDA = BuildFacts(
    "llama.cpp", "CUDA : ARCHS = 610 | ", True, (Device("CUDA0", "Tesla P40", "gpu", 24 << 30, 23 << 30),)
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(Path(__file__).resolve().parents[2] / "configs/models.yaml")


@pytest.fixture
def yard(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BATCHYARD_MODELS", str(settings.models))
    monkeypatch.setenv("BATCHYARD_HARDWARE", str(settings.hardware))
    return settings


def test_it_prints_each_setting_with_its_source(yard: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpu", "none", "--model", "chat", "--profile", "cpu_x86"]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert ["n_batch", "256", "profile", "cpu_x86"] in rows
    assert ["type_k", "f16", "engine"] in rows
    assert "model chat (llama_cpp) on the processor, profile cpu_x86: weights" in printed
    assert "model defect_detect" not in printed


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


def test_each_model_is_shown_on_the_gpu_that_its_worker_would_take(
    settings: Settings, catalogue: Catalogue
) -> None:
    chat = catalogue.model("chat")
    on_cpu = chat.model_copy(update={"model_name": "cpu", "n_gpu_layers": 0})
    kind = OnnxEntry(engine="onnx", model_name="kind", model_path="models/kind.onnx")
    shown = show(settings, [chat, on_cpu, kind], [P40, P40_TOO], "auto", None)
    heads = [line for line in shown.splitlines() if line.startswith("model ")]
    assert heads[0].startswith("model chat (llama_cpp) on GPU 0 Tesla P40, profile p40: weights")
    cpu = prepare(settings, on_cpu, []).profile.profile_name
    assert heads[1].startswith(f"model cpu (llama_cpp) on the processor, profile {cpu}: weights")
    assert heads[2] == f"model kind (onnx) on the processor, profile {cpu}"
    assert f"profile {cpu}" in shown and "profile p40" in shown


def test_the_plan_is_commands_to_run(settings: Settings, catalogue: Catalogue) -> None:
    lines = commands(plan(settings, catalogue.model_list, [P40, P40_TOO], CUDA)).splitlines()
    assert lines[0].startswith("python -m workers --model defect_detect --gpu GPU-a   # ")
    assert lines[1].startswith("python -m workers --model chat --gpu GPU-b   # ")


def test_the_plan_puts_onto_cards_what_runs_there_and_counts_classifiers(
    settings: Settings, catalogue: Catalogue
) -> None:
    chat = catalogue.model("chat")
    file = chat.model_path  # any file: its size is what counts
    models = [
        chat.model_copy(update={"model_name": "cpu", "n_gpu_layers": 0}),
        OnnxEntry(engine="onnx", model_name="kind", model_path=file),
        OnnxEntry(
            engine="onnx",
            model_name="kind_gpu",
            model_path=file,
            execution_providers=("CUDAExecutionProvider",),
        ),
        OpenaiEntry(engine="openai", model_name="far", model="x", api_base="https://host/v1"),
        chat.model_copy(update={"model_name": "gone", "model_path": "models/gone.gguf"}),
        chat.model_copy(update={"model_name": "split", "split_mode": "layer", "tensor_split": (3, 1)}),
        chat,
    ]
    found = {one.model: one for one in plan(settings, models, [P40], CUDA)}
    assert {name: one.gpu for name, one in found.items()} == {
        "cpu": None, "kind": None, "kind_gpu": "GPU-a", "far": None, "gone": None, "split": None,
        "chat": "GPU-a",
    }  # fmt: skip
    size = (settings.models.parent.parent / file).stat().st_size
    assert (found["kind"].size, found["kind_gpu"].size) == (size, size + (512 << 20))
    assert "gone.gguf" in found["gone"].reason and found["gone"].size == 0
    assert "tensor_split has 2 parts" in found["split"].reason
    assert found["cpu"].size > size and found["far"].size == 0


def test_a_build_for_the_processor_alone_puts_nothing_onto_a_card(
    settings: Settings, catalogue: Catalogue
) -> None:
    alone = BuildFacts("llama.cpp", "CPU : AVX2 = 1 | ", False, ())
    assert {one.gpu for one in plan(settings, catalogue.model_list, [P40], alone)} == {None}
    assert {one.gpu for one in plan(settings, catalogue.model_list, [P40], None)} == {"GPU-a"}
    [chat] = plan(settings, [catalogue.model("chat")], [P40], alone)
    assert "built for the CPU alone" in chat.reason and "--gpu none" in chat.reason and chat.size > 0
    assert plan(settings, [catalogue.model("chat")], [], None)[0].reason == "there is no GPU"


def test_the_plan_is_data_for_other_programs(yard: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--json", "--gpu", "none", "--model", "chat"]) == 0
    [one] = json.loads(capsys.readouterr().out)
    assert one.keys() == {"model", "gpu", "size", "reason"} and (one["model"], one["gpu"]) == ("chat", None)


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
