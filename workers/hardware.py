"""`python -m workers.hardware`: this machine, and every model's GPU, profile and settings with their source.
`python -m workers.hardware plan`: which model to start on which GPU, as commands or (`--json`) as data.

It loads no model. Sizes are the engine's own estimates.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from batchyard.catalogue import LlamaEntry, ModelEntry, load_catalogue
from batchyard.errors import InvalidConfig, YardError
from batchyard.settings import Settings, load_settings
from workers.engine.errors import EngineError
from workers.gpu import NOT_DRIVEN, Gpu, choose_gpus, gpus_of, list_gpus, pci_gpus
from workers.placement import Placement
from workers.plan import build_for, estimate, plan
from workers.profile import Cpu, this_cpu
from workers.start import Start, free_cores, prepare


def show(
    settings: Settings, models: Sequence[ModelEntry], there: Sequence[Gpu], wanted: str, profile: str | None
) -> str:
    """Of each model what its worker would take with `--gpu` as `wanted`, as text."""
    lines = []
    for entry in models:
        gpus = gpus_of(entry, there, wanted) if entry.wants_gpu else ()
        start = prepare(settings, entry, gpus, profile)
        where = (
            ", ".join(f"GPU {gpu.index} {gpu.name}" for gpu in start.gpus if start.on_gpu) or "the processor"
        )
        lines += [
            "",
            f"model {entry.model_name} ({entry.engine}) on {where}, profile {start.profile.profile_name}"
            f"{estimate_text(settings, start)}",
            f"  {'omp_spin_count':20} {_shown(start.profile.omp_spin_count):10} "
            f"profile {start.profile.profile_name}",
        ]
        lines += [
            f"  {name:20} {_shown(setting.value):10} {setting.source}"
            for name, setting in start.resolved.settings.items()
        ]
    return "\n".join(lines)


def machine_lines(gpus: Sequence[Gpu], cpu: Cpu, on_bus: Sequence[str]) -> list[str]:
    """What there is: the processor, and each GPU with what NVML says about it."""
    lines = [f"processor {cpu.machine}, {free_cores()} threads for an engine"]
    for gpu in gpus:
        capability, link = ".".join(map(str, gpu.compute_capability)), gpu.pcie
        facts = [
            f"compute capability {capability}",
            f"{gpu.free / 2**30:.1f} of {gpu.memory / 2**30:.1f} GiB free",
            f"driver {gpu.driver}" + (f" (CUDA up to {gpu.cuda[0]}.{gpu.cuda[1]})" if gpu.cuda else ""),
            *([f"PCIe {link[0]} x{link[1]}"] if link else []),
            *([f"{gpu.power_limit:.0f} W"] if gpu.power_limit else []),
        ]
        lines.append(f"GPU {gpu.index} {gpu.name} {gpu.uuid}: {', '.join(facts)}")
    if len(on_bus) > len(gpus):
        lines.append(f"the driver runs {len(gpus)} of {len(on_bus)} GPUs ({', '.join(on_bus)}); {NOT_DRIVEN}")
    elif not gpus:
        lines.append("no NVIDIA GPU")
    return lines


def estimate_text(settings: Settings, start: Start) -> str:
    """What a GGUF takes where it would run; nothing for a model that llama.cpp does not run."""
    if not isinstance(start.entry, LlamaEntry):
        return ""
    budget = "" if start.budget is None else f", budget {start.budget / 2**20:,.0f} MiB"
    try:
        return f": {estimate(settings, start)}{budget}"
    except EngineError as exc:
        raise InvalidConfig(exc.message, code=exc.code, field=exc.field, remedy=exc.remedy) from exc


def commands(placements: Sequence[Placement]) -> str:
    """The plan as commands, each with its reason."""
    lines = []
    for one in placements:
        size = f"{one.size / 2**20:,.0f} MiB, " if one.size else ""
        lines.append(
            f"python -m workers --model {one.model} --gpu {one.gpu or 'none'}   # {size}{one.reason}"
        )
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Entry point; errors of configuration are one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m workers.hardware", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["show", "plan"], default="show")
    parser.add_argument("--model", action="append", help="only this model; may be repeated")
    parser.add_argument("--gpu", default="auto", help="as for the worker; for plan: auto means all")
    parser.add_argument("--profile", help="hardware profile, instead of the one that matches")
    parser.add_argument(
        "--json", action="store_true", help="plan: a list of model, gpu, size (bytes), reason"
    )
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        catalogue = load_catalogue(settings.models)
        models = [catalogue.model(name) for name in arguments.model or catalogue.model_names]
        there = list_gpus()
        if arguments.what == "show":
            shown = show(settings, models, there, arguments.gpu, arguments.profile)
            print("\n".join(machine_lines(there, this_cpu(), pci_gpus())))
            print(shown)
        else:
            gpus = there if arguments.gpu == "auto" else choose_gpus(there, arguments.gpu)
            placements = plan(settings, models, gpus, build_for(gpus))
            print(json.dumps(list(map(asdict, placements))) if arguments.json else commands(placements))
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
