"""Which hardware profile fits, and what a model's settings become under it. Pure: facts in, decisions out.

catalogue entry (wins) ─┐
hardware profile ───────┼─► resolve ─► a value and its source for every setting ─► with_whole, with_threads
engine's own default ───┘
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from batchyard.catalogue import LlamaEntry, ModelEntry
from batchyard.entry import OnnxEntry
from batchyard.errors import InvalidConfig
from batchyard.hardware import Hardware, Match, Profile, capability
from batchyard.model_settings import ModelSettings
from workers.build_llama import cpu_flags
from workers.engine.model import EngineModel
from workers.gpu import Gpu
from workers.whole_rows import WholeRows

CATALOGUE = "catalogue"
ENGINE = "engine"
COMMAND_LINE = "command line"
SPARE_CORES = "cores but one"


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor: `machine` as platform.machine() says, `flags` that every core has."""

    machine: str
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting's value and who decided it: the command line, the catalogue, a profile, the engine, the
    number of cores, or what must be computed at once."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model's settings under a profile, by name, in the order of `ModelSettings`."""

    profile: str
    settings: Mapping[str, Setting]

    def value(self, name: str) -> Any:
        """The value of a setting; None where the engine decides while it loads."""
        return self.settings[name].value

    def with_whole(self, whole: WholeRows | None) -> "Resolved":
        """The same with steps that hold what must be computed at once, unless the catalogue sets them."""
        least = {} if whole is None else {"n_batch": whole.n_batch, "n_ubatch": whole.n_ubatch}
        raised = {
            name: Setting(rows, whole.reason)
            for name, rows in least.items()
            if whole and self.settings[name].source != CATALOGUE and self.settings[name].value < rows
        }
        return Resolved(self.profile, {**self.settings, **raised})

    def with_threads(self, threads: int | None, cores: int) -> "Resolved":
        """The same with the command line's number of threads, if it gives one, and with `cores` where nobody
        has named a number."""
        if "n_threads" not in self.settings:
            return self
        if threads is not None:
            chosen = Setting(threads, COMMAND_LINE)
        elif self.settings["n_threads"].value is None:
            chosen = Setting(cores, SPARE_CORES)
        else:
            return self
        return Resolved(self.profile, {**self.settings, "n_threads": chosen})


def this_cpu() -> Cpu:
    """The processor of this machine."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    return Cpu(platform.machine(), cpu_flags(cpuinfo))


def choose_profile(hardware: Hardware, gpus: Sequence[Gpu], cpu: Cpu, named: str | None = None) -> Profile:
    """The profile `named`, else the first that matches the worker's GPUs, or the processor where it has none.

    Raises:
        InvalidConfig: there is no such profile, none matches, or a split model's GPUs have different ones.
    """
    if named is not None:
        return hardware.profile(named)
    first, *others = [_first_match(hardware, gpu, cpu) for gpu in gpus] or [_first_match(hardware, None, cpu)]
    for gpu, other in zip(gpus[1:], others, strict=True):
        if other != first:
            raise InvalidConfig(
                f"one model on unlike GPUs: {gpus[0].name} has the profile {first.profile_name}, "
                f"{gpu.name} {other.profile_name}",
                code="unlike_gpus",
                field="--gpu",
                remedy="name GPUs of one kind, or the profile for all of them: --profile NAME",
            )
    return first


def _first_match(hardware: Hardware, gpu: Gpu | None, cpu: Cpu) -> Profile:
    for profile in hardware.profile_list:
        if profile.match is not None and matches(profile.match, gpu, cpu):
            return profile
    what = f"a {cpu.machine} processor"
    if gpu is not None:
        what = f"{gpu.name}, compute capability {'.'.join(map(str, gpu.compute_capability))}"
    raise InvalidConfig(
        f"no profile matches {what}",
        code="unknown_profile",
        field="profile_list",
        remedy="add one to the hardware file, or name one with --profile",
    )


def matches(match: Match, gpu: Gpu | None, cpu: Cpu) -> bool:
    """Whether every condition holds for a worker on `gpu`, or on the processor where it is None."""
    if match.device != ("cpu" if gpu is None else "gpu"):
        return False
    if match.machines and cpu.machine.lower() not in match.machines:
        return False
    if not cpu.flags.issuperset(match.cpu_flags):
        return False
    if gpu is None:
        return True
    low, high = match.min_compute_capability, match.max_compute_capability
    return (
        (low is None or gpu.compute_capability >= capability(low))
        and (high is None or gpu.compute_capability <= capability(high))
        and (match.gpu_name is None or match.gpu_name.lower() in gpu.name.lower())
        and (match.min_gpu_memory is None or gpu.memory >= match.min_gpu_memory)
    )


def resolve(entry: ModelEntry, profile: Profile) -> Resolved:
    """Each setting from the catalogue entry, else the profile, else the engine's own default. An endpoint has
    none, a classifier its execution providers, threads and budget.

    A profile's threads for a model whose layers are all on a card are not for one that stays partly on the
    processor.
    """
    settings: dict[str, Setting] = {}
    if isinstance(entry, LlamaEntry):
        defaults = {field.name: field.default for field in fields(EngineModel)}
        usual = profile.settings
        if usual.n_gpu_layers == -1 and entry.n_gpu_layers not in (None, -1):
            usual = usual.model_copy(update={"n_threads": None, "n_threads_batch": None})
        settings = {
            name: _decided(getattr(entry, name), getattr(usual, name), defaults[name], profile)
            for name in ModelSettings.model_fields
        }
    elif isinstance(entry, OnnxEntry):
        providers = _decided(entry.execution_providers, profile.execution_providers, None, profile)
        threads = _decided(entry.n_threads, profile.settings.n_threads, None, profile)
        budget = _decided(entry.memory_budget, profile.settings.memory_budget, None, profile)
        settings = {"execution_providers": providers, "n_threads": threads, "memory_budget": budget}
    return Resolved(profile.profile_name, settings)


def _decided(given: Any, usual: Any, default: Any, profile: Profile) -> Setting:
    if given is not None:
        return Setting(given, CATALOGUE)
    if usual is not None:
        return Setting(usual, f"profile {profile.profile_name}")
    return Setting(default, ENGINE)
