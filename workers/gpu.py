"""The GPUs of this machine as NVML sees them, and which of them a worker is pinned to.

Without a driver there are none, and the CPU is used. It knows no model and no profile.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from batchyard.entry import ServedModel
from batchyard.errors import InvalidConfig

logger = logging.getLogger(__name__)

NOT_DRIVEN = "install a driver of branch R580, the last that runs Pascal (Tesla P40) and Volta, or load it"
"""The remedy where NVML lists fewer GPUs than the kernel."""


_HOST_PIDS = "pid:[4026531836]"
"""The first namespace of process ids: the kernel's PROC_PID_INIT_INO, 0xEFFFFFFC."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `memory` and `free` in bytes; `compute_capability` such as (6, 1) for a P40.

    `driver` is the NVIDIA driver's version, such as "580.95.05"; `cuda` the newest CUDA it runs, such as
    (13, 0); `pcie` generation and width of the link now; `power_limit` in watts. None where NVML is silent.
    """

    index: int
    uuid: str
    name: str
    memory: int
    free: int
    compute_capability: tuple[int, int]
    driver: str = ""
    cuda: tuple[int, int] | None = None
    pcie: tuple[int, int] | None = None
    power_limit: float | None = None

    @property
    def driver_branch(self) -> int | None:
        """The driver's branch, 580 for "580.95.05"."""
        branch = self.driver.split(".")[0]
        return int(branch) if branch.isdecimal() else None


def list_gpus() -> list[Gpu]:
    """The GPUs of this machine in PCI order; empty without an NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory=int(memory.total),
        free=int(memory.free),
        compute_capability=(int(major), int(minor)),
        driver=_text(pynvml.nvmlSystemGetDriverVersion()),
        cuda=(cuda // 1000, cuda % 1000 // 10),
        pcie=_pcie(handle),
        power_limit=_power_limit(handle),
    )


def _pcie(handle: object) -> tuple[int, int] | None:
    try:
        generation = pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
        return int(generation), int(pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle))
    except pynvml.NVMLError:
        return None


def _power_limit(handle: object) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
    except pynvml.NVMLError:
        return None


def pci_gpus(root: Path = Path("/")) -> list[str]:
    """PCI addresses of the NVIDIA GPUs that the kernel sees, whether or not a driver runs them."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = ((device / name).read_text("ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            found.append(device.name)
    return found


def choose_gpus(gpus: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """The GPUs that `wanted` names: UUIDs (or their starts) or indices with commas between them, `auto` (the
    one with most free memory, the CPU where there is none) or `none`.

    Raises:
        InvalidConfig: there is no such GPU, or one is named twice.
    """
    if wanted == "none" or (wanted == "auto" and not gpus):
        return ()
    if wanted == "auto":
        return (max(gpus, key=lambda gpu: gpu.free),)
    chosen = tuple(_the_one(gpus, word.strip()) for word in wanted.split(","))
    if len(set(chosen)) < len(chosen):
        raise _unknown(gpus, wanted, "one GPU is named twice")
    return chosen


def _the_one(gpus: Sequence[Gpu], wanted: str) -> Gpu:
    matches = [gpu for gpu in gpus if str(gpu.index) == wanted or (wanted and gpu.uuid.startswith(wanted))]
    if len(matches) != 1:
        raise _unknown(gpus, wanted, f"{len(matches)} GPUs match")
    return matches[0]


def _unknown(gpus: Sequence[Gpu], wanted: str, why: str) -> InvalidConfig:
    there = ", ".join(f"{gpu.index} = {gpu.uuid} ({gpu.name})" for gpu in gpus) or "none"
    return InvalidConfig(
        f"{why}: {wanted!r}; there are: {there}",
        code="unknown_gpu",
        field="--gpu",
        remedy="give the UUID that nvidia-smi -L prints, or none for the CPU",
    )


def gpus_for(entry: ServedModel, wanted: str) -> tuple[Gpu, ...]:
    """The GPUs of the worker of `entry`, of those in this machine; none for one that uses none.

    Raises:
        InvalidConfig: see `gpus_of`.
    """
    there = list_gpus()
    if entry.wants_gpu and wanted == "auto" and len(there) < len(seen := pci_gpus()):
        logger.warning("the NVIDIA driver runs %d of %d GPUs; %s", len(there), len(seen), NOT_DRIVEN)
    return gpus_of(entry, there, wanted)


def gpus_of(entry: ServedModel, there: Sequence[Gpu], wanted: str) -> tuple[Gpu, ...]:
    """Of the GPUs that are `there` those of the worker of `entry`, none for one that uses none.

    Raises:
        InvalidConfig: see `choose_gpus`; or a GPU is named for a model that uses none.
    """
    if entry.wants_gpu:
        return choose_gpus(there, wanted)
    if wanted not in ("auto", "none"):
        raise InvalidConfig(
            f"the model {entry.model_name!r} uses no GPU, and one is named: {wanted!r}",
            code="unknown_gpu",
            field="--gpu",
            remedy="leave --gpu out, or change n_gpu_layers or execution_providers of its entry",
        )
    return ()


def pin_environment(gpus: Sequence[Gpu]) -> dict[str, str]:
    """The environment that lets a CUDA process see these GPUs alone, in this order; it must stand before CUDA
    is loaded."""
    visible = ",".join(gpu.uuid for gpu in gpus)
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": visible}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has on a GPU, as far as NVML says: `size` in bytes, None where it does not.

    `others_only`: NVML lists processes and not this one. `free`: bytes free on the card now, None without an
    answer.
    """

    size: int | None = None
    others_only: bool = False
    free: int | None = None


def memory_held(pid: int, gpu: Gpu) -> Held:
    """What process `pid` has on the GPU. In a container NVML lists process ids of the host, or none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Held()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        free = int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError:
        return Held()
    finally:
        pynvml.nvmlShutdown()
    return held_by(pid, {process.pid: process.usedGpuMemory for process in processes}, free)


def held_by(pid: int, listed: Mapping[int, int | None], free: int | None = None) -> Held:
    """What `listed` (bytes by process id, None where NVML does not know them) says of process `pid`."""
    return Held(listed.get(pid) or None, bool(listed) and pid not in listed, free)


def sees_host_pids(root: Path = Path("/")) -> bool:
    """Whether process ids here are those of the host, which NVML lists; in most containers not."""
    try:
        return str((root / "proc/self/ns/pid").readlink()) == _HOST_PIDS
    except OSError:
        return False


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
