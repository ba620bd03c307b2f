"""What speaks against a build on a GPU: decisions over plain values of NVML and of the library."""

from dataclasses import replace

import pytest

from batchyard.hardware import Profile
from workers.checks import gpu_findings
from workers.engine.build_facts import BuildFacts, Device
from workers.gpu import Gpu

P40 = Gpu(0, "GPU-a", "Tesla P40", 24 << 30, 23 << 30, (6, 1), driver="580.95.05")
PROFILE = Profile(profile_name="p40", min_driver=525, max_driver=580)
CUDA = BuildFacts(
    build="llama-cpp-python 0.3.36",
    system_info="CUDA : ARCHS = 610,700,860 | USE_GRAPHS = 1 | CPU : AVX2 = 1 | ",
    gpu_offload=True,
    devices=(
        Device("CUDA0", "Tesla P40", "gpu", 24 << 30, 23 << 30),
        Device("CPU", "a processor", "cpu", 64 << 30, 60 << 30),
    ),
)


def built_for(architectures: str) -> BuildFacts:
    return replace(CUDA, system_info=f"CUDA : ARCHS = {architectures} | CPU : AVX2 = 1 | ")


def test_the_right_build_on_the_right_driver_is_fine() -> None:
    assert gpu_findings([P40], PROFILE, CUDA) == []


def test_a_build_for_the_cpu_is_refused_and_says_how_to_get_another() -> None:
    build = BuildFacts("llama-cpp-python 0.3.36", "CPU : AVX2 = 1 | ", gpu_offload=False, devices=())
    [finding] = gpu_findings([P40], PROFILE, build)
    assert finding.fatal
    assert "built for the CPU alone" in finding.message and "Tesla P40" in finding.message
    assert "BATCHYARD_CUDA=1 make setup" in finding.remedy and "--gpu none" in finding.remedy


def test_a_gpu_that_the_library_does_not_see_is_refused() -> None:
    [finding] = gpu_findings([P40, replace(P40, uuid="GPU-b")], PROFILE, CUDA)
    assert finding.fatal
    assert "sees 1 of the 2 GPUs" in finding.message


@pytest.mark.parametrize(
    ("driver", "fatal", "words"),
    [
        ("470.256.02", True, "older than branch R525"),
        ("590.44.01", False, "newer than branch R580"),
        ("525.60.13", None, ""),
        ("", None, ""),
    ],
)
def test_a_driver_out_of_the_profiles_range(driver: str, fatal: bool | None, words: str) -> None:
    found = gpu_findings([replace(P40, driver=driver)], PROFILE, CUDA)
    assert [one.fatal for one in found] == ([] if fatal is None else [fatal])
    assert all(words in one.message for one in found)


@pytest.mark.parametrize(
    ("architectures", "capability", "fatal"),
    [
        ("750,860", (6, 1), True),  # what CUDA 13 builds: nothing in it runs on Pascal
        ("600", (6, 1), None),  # code of the same major and an earlier minor runs
        ("620", (6, 1), True),
        ("520", (6, 1), False),  # runs only if it carries PTX, which a build does not say
        ("610,860", (8, 9), None),
        ("610", (9, 0), False),
    ],
)
def test_code_for_other_compute_capabilities(
    architectures: str, capability: tuple[int, int], fatal: bool | None
) -> None:
    gpu = replace(P40, compute_capability=capability)
    found = gpu_findings([gpu], PROFILE, built_for(architectures))
    assert [one.fatal for one in found] == ([] if fatal is None else [fatal])


def test_the_remedy_names_the_architecture_and_for_pascal_the_toolkit() -> None:
    [finding] = gpu_findings([P40], PROFILE, built_for("750"))
    assert finding.remedy == "build it with CMAKE_CUDA_ARCHITECTURES=61-real and CUDA 12 (13 dropped it)"


def test_faults_come_before_doubts() -> None:
    found = gpu_findings([replace(P40, driver="590.1")], PROFILE, built_for("750"))
    assert [one.fatal for one in found] == [True, False]
