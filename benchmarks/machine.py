"""The machine a figure belongs to: processor, cores, memory, versions, and what else was running."""

import os
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("celery", "kombu", "redis", "pydantic", "llama-cpp-python")


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory` in bytes; `load` is the mean number of running processes over the last minute; `versions`
    by package, None where it is not installed."""

    processor: str
    cores: int
    memory: int
    system: str
    python: str
    load: float
    versions: dict[str, str | None]

    def lines(self) -> list[str]:
        """The machine as text, with a warning if it was busy."""
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items() if number)
        lines = [
            f"{self.processor}, {self.cores} cores, {self.memory / 1e9:.1f} GB, {self.system}",
            f"Python {self.python}, {packages}",
        ]
        if self.load > 0.3:
            lines.append(f"warning: load {self.load:.1f} before the start; something else was running")
        return lines

    def running(self, name: str, number: str) -> "Machine":
        """This machine with one more version, of what the benchmark started."""
        return replace(self, versions=self.versions | {name: number})

    def as_dict(self) -> dict[str, object]:
        """For a JSON file."""
        return asdict(self)


def this_machine() -> Machine:
    """The machine now."""
    return Machine(
        processor=processor_name(_text("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load=os.getloadavg()[0],
        versions={name: _version(name) for name in PACKAGES},
    )


def processor_name(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo, or an empty string."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
