"""How many threads, and how long idle ones spin: decided before the native library loads.

OpenMP's threads spin at every barrier. On a machine that also runs a queue and a router, unbounded spinning
cost a factor of ten (3.6 jobs/s against 37.9 with a bound of 2,000), so the bound is set unless the user
set one. It knows no model.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

DEFAULT_SPIN_COUNT: Final = "2000"
_SPIN_SETTINGS: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def bound_spinning(environment: MutableMapping[str, str]) -> None:
    """Set GOMP_SPINCOUNT unless it or OMP_WAIT_POLICY is set already. Call before llama.cpp is imported."""
    if not any(name in environment for name in _SPIN_SETTINGS):
        environment["GOMP_SPINCOUNT"] = DEFAULT_SPIN_COUNT


def choose_threads(root: Path = Path("/")) -> int:
    """Physical cores this process may use, at least one: affinity, then a container's CPU quota bound it.

    Two hardware threads of one core share its vector units, so counting both makes decoding slower.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = len({_siblings(root, cpu) for cpu in allowed})
    return max(1, min(cores, _quota(root)))


def _siblings(root: Path, cpu: int) -> str:
    path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota(root: Path) -> int:
    """Whole CPUs granted by the control group, rounded up; a large number without a limit."""
    try:
        limit, period = (root / "sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 1 << 16
    return 1 << 16 if limit == "max" else max(1, -(-int(limit) // int(period)))
