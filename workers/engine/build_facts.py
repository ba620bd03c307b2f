"""What the native library is and which devices it sees, found out in a child that ends again.

A process that has looked at a GPU keeps memory on it; the worker looks first and starts its engine then.
`python -m workers.engine.build_facts` prints the facts as JSON, in the environment that pins the GPU.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, EngineError

_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the library. `memory` and `free` in bytes; `kind` cpu, gpu, igpu, accel or meta."""

    name: str
    description: str
    kind: str
    memory: int
    free: int


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """The native library: its name and version, its features as it prints them, whether it can offload at
    all, and the devices that this environment lets it see.
    """

    build: str
    system_info: str
    gpu_offload: bool
    devices: tuple[Device, ...]

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The devices with memory of their own."""
        return tuple(device for device in self.devices if device.kind == "gpu")

    @property
    def architectures(self) -> tuple[int, ...]:
        """CUDA architectures that the build has code for, as 610 for compute capability 6.1; none without
        CUDA."""
        found = re.search(r"\bARCHS = ([0-9,]+)", self.system_info)
        return tuple(sorted({int(word) for word in found.group(1).split(",") if word})) if found else ()


def build_facts(environ: Mapping[str, str]) -> BuildFacts:
    """The facts as an engine would see them that is started in `environ`.

    Raises:
        EngineError: the library cannot be loaded there.
    """
    command = [sys.executable, "-m", "workers.engine.build_facts"]
    try:
        child = subprocess.run(
            command, env=dict(environ), capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unusable(f"it did not answer within {_TIMEOUT_S:g} s") from None
    if child.returncode != 0:
        last = child.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise _unusable(f"exit status {child.returncode}: {' '.join(last)}")
    return facts_of(json.loads(child.stdout))


def facts_of(data: Mapping[str, Any]) -> BuildFacts:
    """The facts in what the child printed."""
    return BuildFacts(
        build=data["build"],
        system_info=data["system_info"],
        gpu_offload=data["gpu_offload"],
        devices=tuple(Device(**device) for device in data["devices"]),
    )


def _unusable(why: str) -> EngineError:
    return EngineError(
        MODEL_FILE_INVALID,
        f"llama.cpp's library cannot be asked about itself: {why}",
        field="llama-cpp-python",
        remedy="install it again: make setup",
    )


def main() -> int:
    """The child's whole life."""
    from workers.engine.llama.build import build_name, devices, offloads_to_gpu, system_info

    facts = BuildFacts(build_name(), system_info(), offloads_to_gpu(), devices())
    print(json.dumps(asdict(facts)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
