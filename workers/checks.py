"""What is wrong with running a model's layers on these GPUs, found before anything is loaded. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchyard.hardware import Profile
from workers.engine.build_facts import BuildFacts
from workers.gpu import Gpu

REBUILD = "build it with CUDA 12: BATCHYARD_CUDA=1 make setup"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, what to do about it, and whether the worker must not start with it."""

    message: str
    remedy: str
    fatal: bool = True


def gpu_findings(gpus: Sequence[Gpu], profile: Profile, build: BuildFacts) -> list[Finding]:
    """What speaks against this build on these GPUs, the worst first."""
    found = [*_build_findings(gpus, build)]
    for gpu in gpus:
        found += [*_driver_findings(gpu, profile), *_code_findings(gpu, build)]
    return sorted(found, key=lambda one: not one.fatal)


def _build_findings(gpus: Sequence[Gpu], build: BuildFacts) -> list[Finding]:
    if not build.gpu_offload:
        return [
            Finding(
                f"the installed {build.build} is built for the CPU alone, and layers were asked on "
                f"{gpus[0].name}",
                f"{REBUILD}; or run on the CPU: --gpu none",
            )
        ]
    if len(build.gpus) < len(gpus):
        seen = ", ".join(device.description for device in build.gpus) or "none"
        return [
            Finding(
                f"llama.cpp sees {len(build.gpus)} of the {len(gpus)} GPUs that this worker is pinned to: "
                f"{seen}",
                "compare the driver with the CUDA version of the build; in a container, pass the device in",
            )
        ]
    return []


def _driver_findings(gpu: Gpu, profile: Profile) -> list[Finding]:
    branch = gpu.driver_branch
    if branch is None:
        return []
    if profile.min_driver is not None and branch < profile.min_driver:
        return [
            Finding(
                f"driver {gpu.driver} of {gpu.name} is older than branch R{profile.min_driver}, which "
                f"the profile {profile.profile_name} needs",
                f"install a driver of branch R{profile.min_driver} or newer",
            )
        ]
    if profile.max_driver is not None and branch > profile.max_driver:
        return [
            Finding(
                f"driver {gpu.driver} is newer than branch R{profile.max_driver}, the last known to run "
                f"{gpu.name}",
                f"install branch R{profile.max_driver} and hold it there",
                fatal=False,
            )
        ]
    return []


def _code_findings(gpu: Gpu, build: BuildFacts) -> list[Finding]:
    """Machine code runs on its own compute capability and on later minor ones of the same major; PTX of an
    earlier one could be compiled at start, and a build does not say whether it carries any."""
    if not build.architectures:
        return []
    major, minor = gpu.compute_capability
    own = major * 100 + minor * 10
    if any(major * 100 <= code <= own for code in build.architectures):
        return []
    there = ", ".join(f"{code // 100}.{code % 100 // 10}" for code in build.architectures)
    message = f"llama.cpp is built for compute capability {there}, and {gpu.name} has {major}.{minor}"
    remedy = f"build it with CMAKE_CUDA_ARCHITECTURES={major}{minor}-real"
    if major < 7:
        remedy += " and CUDA 12 (13 dropped it)"
    return [Finding(message, remedy, fatal=min(build.architectures) > own)]
