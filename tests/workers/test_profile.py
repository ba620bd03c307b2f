"""Which profile a machine gets, and where each setting comes from: decisions over plain values of NVML."""

from pathlib import Path

import pytest

from batchyard.catalogue import LlamaEntry
from batchyard.errors import InvalidConfig
from batchyard.hardware import Hardware, Profile, load_hardware
from batchyard.model_settings import ModelSettings
from workers.engine.model import EngineModel
from workers.gpu import Gpu
from workers.profile import Cpu, Setting, choose_profile, resolve, this_cpu

X86 = Cpu("x86_64", frozenset({"avx2", "fma", "sse4_2"}))
P40 = Gpu(0, "GPU-a", "Tesla P40", 24_032_378_880, 23 << 30, (6, 1), driver="580.95.05", cuda=(13, 0))


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return load_hardware(Path(__file__).resolve().parents[2] / "configs/hardware.yaml")


def gpu(name: str, capability: tuple[int, int], gib: int = 16) -> Gpu:
    return Gpu(0, "GPU-a", name, gib << 30, gib << 30, capability)


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (P40, "p40"),
        (gpu("NVIDIA GeForce GTX 1080", (6, 1), 8), "pascal"),
        (gpu("Tesla P100-PCIE-16GB", (6, 0)), "pascal"),
        (gpu("Tesla M40 24GB", (5, 2), 24), "maxwell"),
        (gpu("Tesla V100-SXM2-16GB", (7, 0)), "volta"),
        (gpu("Tesla T4", (7, 5)), "turing_plus"),
        (gpu("NVIDIA H100 80GB HBM3", (9, 0), 80), "turing_plus"),
        (gpu("NVIDIA GeForce RTX 5090", (12, 0), 32), "turing_plus"),
    ],
)
def test_a_gpu_gets_the_profile_of_its_kind(hardware: Hardware, card: Gpu, name: str) -> None:
    assert choose_profile(hardware, [card], X86).profile_name == name


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        (X86, "cpu_x86"),
        (Cpu("x86_64", frozenset({"sse4_2"})), "cpu"),
        (Cpu("aarch64"), "cpu_arm"),
        (Cpu("arm64"), "cpu_arm"),
        (Cpu("riscv64"), "cpu"),
    ],
)
def test_a_processor_gets_the_profile_of_its_kind(hardware: Hardware, cpu: Cpu, name: str) -> None:
    assert choose_profile(hardware, [], cpu).profile_name == name


def test_this_machine_gets_one(hardware: Hardware) -> None:
    assert choose_profile(hardware, [], this_cpu()).profile_name.startswith("cpu")


def test_a_named_profile_wins_and_one_without_match_is_never_chosen_by_itself(hardware: Hardware) -> None:
    assert choose_profile(hardware, [P40], X86, "cpu_arm").profile_name == "cpu_arm"
    assert choose_profile(hardware, [], X86, "fpga").execution_providers[0] == "VitisAIExecutionProvider"
    alone = Hardware(profile_list=(Profile(profile_name="fpga"),))
    with pytest.raises(InvalidConfig, match=r"no profile matches Tesla P40, compute capability 6\.1"):
        choose_profile(alone, [P40], X86)


def test_a_split_model_needs_gpus_of_one_profile_or_its_name(hardware: Hardware) -> None:
    t4 = gpu("Tesla T4", (7, 5))
    assert choose_profile(hardware, [P40, P40], X86).profile_name == "p40"
    with pytest.raises(InvalidConfig, match="Tesla P40 has the profile p40, Tesla T4 turing_plus") as caught:
        choose_profile(hardware, [P40, P40, t4], X86)
    assert caught.value.code == "unlike_gpus"
    assert choose_profile(hardware, [P40, t4], X86, "pascal").profile_name == "pascal"


def test_the_p40_gets_the_step_that_public_step_times_call_for(hardware: Hardware) -> None:
    settings = choose_profile(hardware, [P40], X86).settings
    assert (settings.n_batch, settings.n_ubatch, settings.flash_attn) == (128, 128, True)


def test_the_catalogue_wins_over_the_profile_and_the_profile_over_the_engine() -> None:
    entry = LlamaEntry(model_name="m", model_path="m.gguf", n_batch=32, flash_attn=False)
    profile = Profile(
        profile_name="p", settings=ModelSettings(n_batch=128, n_ubatch=64, flash_attn=True, op_offload=False)
    )
    settings = resolve(entry, profile).settings
    assert (settings["n_batch"].value, settings["n_batch"].source) == (32, "catalogue")
    assert (settings["flash_attn"].value, settings["flash_attn"].source) == (False, "catalogue")
    assert (settings["n_ubatch"].value, settings["n_ubatch"].source) == (64, "profile p")
    assert (settings["op_offload"].value, settings["op_offload"].source) == (False, "profile p")
    assert (settings["type_k"].value, settings["type_k"].source) == ("f16", "engine")


@pytest.mark.parametrize(("layers", "threads"), [(None, 2), (-1, 2), (10, None)])
def test_the_few_threads_of_a_gpu_are_not_for_a_model_partly_on_the_processor(
    hardware: Hardware, layers: int | None, threads: int | None
) -> None:
    entry = LlamaEntry(model_name="m", model_path="m.gguf", n_gpu_layers=layers)
    resolved = resolve(entry, choose_profile(hardware, [P40], X86))
    assert resolved.value("n_threads") == threads
    own = Profile(profile_name="p", settings=ModelSettings(n_gpu_layers=10, n_threads=6))
    assert resolve(entry, own).value("n_threads") == 6, "a profile that splits so means its threads"


def test_threads_of_the_command_line_win_over_all_and_the_cores_fill_in() -> None:
    entry = LlamaEntry(model_name="m", model_path="m.gguf", n_threads=2)
    resolved = resolve(entry, Profile(profile_name="p"))
    assert resolved.with_threads(None, 7).value("n_threads") == 2
    assert resolved.with_threads(5, 7).settings["n_threads"] == Setting(5, "command line")
    silent = resolve(entry.model_copy(update={"n_threads": None}), Profile(profile_name="p"))
    assert silent.with_threads(None, 7).settings["n_threads"] == Setting(7, "cores but one")


def test_a_profile_may_set_the_longest_step() -> None:
    profile = Profile(profile_name="p", settings=ModelSettings(target_step_ms=150.0))
    assert resolve(LlamaEntry(model_name="m", model_path="m.gguf"), profile).value("target_step_ms") == 150.0


def test_the_engine_knows_every_setting_that_a_profile_may_decide() -> None:
    known = EngineModel.parse(
        {"model_name": "m", "model_path": "m"} | dict.fromkeys(ModelSettings.model_fields)
    )
    assert known == EngineModel("m", "m")
