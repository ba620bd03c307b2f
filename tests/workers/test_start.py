"""What is decided before an engine starts, and what is refused after it has: over plain values."""

import logging
from dataclasses import replace

import pytest

from batchyard.catalogue import LlamaEntry
from batchyard.entry import OnnxEntry, OpenaiEntry
from batchyard.errors import InvalidConfig
from batchyard.hardware import Profile
from batchyard.settings import Settings
from workers.engine.build_facts import BuildFacts, Device
from workers.gpu import Gpu, Held, held_by
from workers.profile import resolve
from workers.start import Start, check_build, check_placed, prepare, spinning

P40 = Gpu(0, "GPU-a", "Tesla P40", 24 << 30, 23 << 30, (6, 1), driver="590.10")
PROFILE = Profile(profile_name="p", max_driver=580)


def start(*gpus: Gpu, **entry: object) -> Start:
    model = LlamaEntry.model_validate({"model_name": "m", "model_path": "m.gguf"} | entry)
    return Start(model, gpus, PROFILE, resolve(model, PROFILE))


def test_preparing_reads_the_profiles_and_takes_the_named_one(settings: Settings) -> None:
    entry = LlamaEntry(model_name="m", model_path="m.gguf")
    prepared = prepare(settings, entry, [P40], threads=3)
    assert prepared.profile.profile_name == "p40"
    assert (prepared.resolved.value("n_batch"), prepared.resolved.value("n_threads")) == (128, 3)
    assert prepared.on_gpu
    named = prepare(settings, entry, [P40], "cpu_x86")
    assert not named.on_gpu, "the profile of a processor puts no layers on a GPU"


def test_a_budget_is_bytes_or_a_share_of_all_cards() -> None:
    assert start(P40, memory_budget=0.25).budget == 6 << 30
    assert start(P40, replace(P40, uuid="GPU-b"), memory_budget=0.25).budget == 12 << 30
    assert start(P40, memory_budget=5 << 30).budget == 5 << 30
    assert start(P40).budget is None
    assert start(memory_budget=0.5).budget is None


def test_the_spin_bound_of_the_environment_wins_over_the_profile() -> None:
    profile = Profile(profile_name="p", omp_spin_count=10)
    assert spinning(Settings(), profile) == {"GOMP_SPINCOUNT": "10"}
    assert spinning(Settings(omp_spin_count=20), profile) == {"GOMP_SPINCOUNT": "20"}
    assert spinning(Settings(omp_spin_count=None), profile) == {}
    assert spinning(Settings(), Profile(profile_name="p", omp_spin_count=None)) == {}


def test_a_classifier_is_pinned_only_for_providers_that_run_on_a_gpu(settings: Settings) -> None:
    entry = OnnxEntry(engine="onnx", model_name="m", model_path="m.onnx")
    on_cpu = prepare(settings, entry, [P40])
    assert on_cpu.gpus == (), "the P40's profile has the processor's provider"
    assert on_cpu.profile == prepare(settings, entry, []).profile
    assert on_cpu.resolved.settings["n_threads"].source == "cores but one"
    on_gpu = entry.model_copy(update={"execution_providers": ("CUDAExecutionProvider",)})
    prepared = prepare(settings, on_gpu, [P40], threads=1)
    assert prepared.gpus == (P40,) and prepared.on_gpu
    assert prepared.budget == int(0.95 * P40.memory), "the profile's"
    assert prepare(settings, on_gpu.model_copy(update={"memory_budget": 2 << 30}), [P40]).budget == 2 << 30
    assert prepared.resolved.settings["execution_providers"].source == "catalogue"
    fpga = prepare(settings, entry, [], "fpga")
    assert fpga.resolved.value("execution_providers")[0] == "VitisAIExecutionProvider"


def test_an_endpoint_has_no_settings_of_hardware(settings: Settings) -> None:
    entry = OpenaiEntry(engine="openai", model_name="m", model="x", api_base="https://host/v1")
    prepared = prepare(settings, entry, [], threads=3)
    assert prepared.resolved.settings == {} and prepared.budget is None


@pytest.mark.parametrize(
    ("entry", "gpus", "field"),
    [
        ({}, 2, "split_mode"),
        ({"split_mode": "layer", "tensor_split": [3, 1, 1]}, 2, "tensor_split"),
        ({"main_gpu": 1}, 1, "main_gpu"),
        ({"split_mode": "row", "tensor_split": [3, 1], "main_gpu": 1}, 2, None),
        ({"main_gpu": 1}, 0, None),
    ],
)
def test_settings_must_fit_the_number_of_gpus(
    settings: Settings, entry: dict[str, object], gpus: int, field: str | None
) -> None:
    model = LlamaEntry.model_validate({"model_name": "m", "model_path": "m.gguf"} | entry)
    cards = [replace(P40, uuid=f"GPU-{at}") for at in range(gpus)]
    if field is None:
        assert len(prepare(settings, model, cards).gpus) == gpus
        return
    with pytest.raises(InvalidConfig) as caught:
        prepare(settings, model, cards)
    assert caught.value.field == f"model 'm': {field}"


def test_a_build_that_cannot_is_refused_and_a_doubt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with_cuda = BuildFacts(
        "b", "CUDA : ARCHS = 610 | ", True, (Device("CUDA0", "Tesla P40", "gpu", 24 << 30, 23 << 30),)
    )
    with caplog.at_level(logging.WARNING):
        check_build(start(P40), with_cuda)
    assert "newer than branch R580" in caplog.text
    with pytest.raises(InvalidConfig, match="built for the CPU alone") as caught:
        check_build(start(P40), BuildFacts("b", "CPU : AVX2 = 1 | ", False, ()))
    assert caught.value.code == "gpu_unusable"


def test_an_engine_that_is_not_on_its_gpu_is_refused_where_process_ids_are_the_host_s() -> None:
    with pytest.raises(InvalidConfig, match="NVML does not list it on GPU-a") as caught:
        check_placed(start(P40), [held_by(7, {8: 1 << 30})], host_pids=True)
    assert caught.value.code == "gpu_unusable"
    check_placed(start(P40), [held_by(7, {})], host_pids=True)
    check_placed(start(P40), [held_by(7, {7: None})], host_pids=True)
    check_placed(start(P40), [held_by(7, {7: 5 << 30})], host_pids=True)


def test_in_a_container_the_free_memory_tells_and_no_more_than_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    others = {4711: 3 << 30}  # process ids of the host, none of them ours
    with caplog.at_level(logging.WARNING):
        check_placed(start(P40), [held_by(7, others, free=P40.free - (5 << 30))], host_pids=False)
        assert not caplog.text
        check_placed(start(P40), [held_by(7, others, free=P40.free - (1 << 20))], host_pids=False)
    assert "GPU-a (Tesla P40) went from 23552 to 23551 MiB" in caplog.text


def test_an_engine_over_its_budget_is_refused() -> None:
    check_placed(start(P40, memory_budget=6 << 30), [Held(6 << 30)], host_pids=True)
    with pytest.raises(InvalidConfig, match="takes 6,145 MiB") as caught:
        check_placed(start(P40, memory_budget=6 << 30), [Held((6 << 30) + (1 << 20))], host_pids=True)
    assert (caught.value.code, caught.value.field) == ("over_memory_budget", "memory_budget")
