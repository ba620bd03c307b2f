"""What this machine offers: free memory, and GPUs where a driver and its Python binding are there."""

import importlib
from pathlib import Path
from typing import Any

from local.fit import Room


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had without swapping; without a limit where the kernel does not say."""
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62


def gpu_rooms() -> tuple[Room, ...]:
    """The GPUs and their free memory; empty without NVML."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except ImportError:
        return ()
    except nvml.NVMLError:
        return ()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Room(str(nvml.nvmlDeviceGetUUID(handle)), int(nvml.nvmlDeviceGetMemoryInfo(handle).free))
            for handle in handles
        )
    finally:
        nvml.nvmlShutdown()
