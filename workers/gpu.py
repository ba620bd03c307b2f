"""Which GPU a worker is pinned to, through NVML. Without a driver there is none, and the CPU is used."""

from dataclasses import dataclass

import pynvml

from batchyard.entry import ServedModel
from batchyard.errors import InvalidConfig


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `memory` and `free` in bytes; `compute_capability` such as (6, 1) for a P40."""

    index: int
    uuid: str
    name: str
    memory: int
    free: int
    compute_capability: tuple[int, int]


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
    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory=int(memory.total),
        free=int(memory.free),
        compute_capability=(int(major), int(minor)),
    )


def choose_gpu(gpus: list[Gpu], wanted: str) -> Gpu | None:
    """The GPU that `wanted` names: a UUID (or its start), an index, `auto` (most free memory) or `none`.

    Raises:
        InvalidConfig: there is no such GPU.
    """
    if wanted == "none" or (wanted == "auto" and not gpus):
        return None
    if wanted == "auto":
        return max(gpus, key=lambda gpu: gpu.free)
    matches = [gpu for gpu in gpus if str(gpu.index) == wanted or gpu.uuid.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    there = ", ".join(f"{gpu.index} = {gpu.uuid} ({gpu.name})" for gpu in gpus) or "none"
    raise InvalidConfig(
        f"{len(matches)} GPUs match {wanted!r}; there are: {there}",
        code="unknown_gpu",
        field="--gpu",
        remedy="give the UUID that nvidia-smi -L prints, or none for the CPU",
    )


def gpu_for(entry: ServedModel, wanted: str) -> Gpu | None:
    """The GPU of the worker of `entry`, None for one that uses none.

    Raises:
        InvalidConfig: see `choose_gpu`.
    """
    return choose_gpu(list_gpus(), wanted) if entry.wants_gpu else None


def pin_environment(gpu: Gpu | None) -> dict[str, str]:
    """The environment that lets a CUDA process see this GPU alone; it must stand before CUDA is loaded."""
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return order | {"CUDA_VISIBLE_DEVICES": gpu.uuid if gpu is not None else ""}


def runs_on(pid: int, gpu: Gpu) -> bool | None:
    """Whether NVML lists process `pid` on the GPU; None where it cannot tell (a container's own pids)."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        pids = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return None if not pids else pid in pids


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
