"""What this machine offers: free memory, and a GPU for each model as the workers themselves would plan it.

Knows the workers by their command line alone.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.settings import Settings
from local.roles import ROOT

_PLAN_SECONDS = 300.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """Where the workers would run a model: the UUID of a GPU, or None for the CPU; `size` in bytes there, 0
    where they could not tell; and why."""

    gpu: str | None
    size: int
    reason: str


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes of memory that can be had without swapping; without a limit where the kernel does not say."""
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62


def workers_plan(settings: Settings, models: Sequence[str], gpu: str) -> Mapping[str, Planned]:
    """By model: what `python -m workers.hardware plan` says, with its `--gpu`; nothing where it fails, so
    that all models go to the CPU.

    It asks NVML, the installed llama.cpp (which may be built for the CPU alone) and each model's header.
    """
    named = [word for model in models for word in ("--model", model)]
    command = [sys.executable, "-m", "workers.hardware", "plan", "--json", "--gpu", gpu, *named]
    environ = os.environ | {
        "BATCHYARD_MODELS": str(settings.models.resolve()),
        "BATCHYARD_HARDWARE": str(settings.hardware.resolve()),
    }
    try:
        child = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_PLAN_SECONDS, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        said = (exc.stderr or "") if isinstance(exc, subprocess.CalledProcessError) else "it took too long"
        logger.warning("no plan of GPUs, so all models go to the CPU: %s", said.strip()[-500:])
        return {}
    return {one["model"]: Planned(one["gpu"], one["size"], one["reason"]) for one in json.loads(child.stdout)}
