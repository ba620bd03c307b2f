"""`python -m workers.hardware`: this machine, its profile, and every model's settings with their source.
`python -m workers.hardware plan`: which model to start on which GPU.

It loads no model. Sizes are the engine's own estimates.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from batchyard.catalogue import LlamaEntry, ModelEntry, load_catalogue
from batchyard.errors import InvalidConfig, YardError
from batchyard.settings import Settings, load_settings
from workers.engine.errors import EngineError
from workers.engine.estimate import MemoryEstimate, planned_memory
from workers.engine.gguf_file import read_header
from workers.engine.model import EngineModel
from workers.gpu import NOT_DRIVEN, Gpu, choose_gpus, list_gpus, pci_gpus
from workers.placement import Need, place
from workers.profile import Cpu, this_cpu
from workers.requests import engine_model
from workers.start import Start, free_cores, models_root, prepare


def show(settings: Settings, models: Sequence[ModelEntry], gpus: Sequence[Gpu], profile: str | None) -> str:
    """The machine, the profile and each model's settings, as text."""
    lines = machine_lines(list_gpus(), this_cpu(), pci_gpus())
    starts = [prepare(settings, entry, gpus, profile) for entry in models]
    for start in starts[:1]:
        lines += ["", f"profile {start.profile.profile_name}: {start.profile.description}"]
        lines.append(f"  omp_spin_count       {start.profile.omp_spin_count}")
    for start in starts:
        lines += [
            "",
            f"model {start.entry.model_name} ({start.entry.engine}){estimate_text(settings, start)}",
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
    return f": {_estimate(settings, start)}{budget}"


def plan(settings: Settings, models: Sequence[ModelEntry], gpus: Sequence[Gpu]) -> str:
    """Where to start each model that llama.cpp runs, with the command."""
    needs = []
    for entry in (model for model in models if isinstance(model, LlamaEntry)):
        starts = {gpu.uuid: prepare(settings, entry, [gpu]) for gpu in gpus}
        sizes = {uuid: _estimate(settings, start).total for uuid, start in starts.items()}
        budgets = {uuid: start.budget for uuid, start in starts.items() if start.budget is not None}
        needs.append(Need(entry.model_name, sizes, budgets))
    lines = []
    for one in place(needs, {gpu.uuid: gpu.free for gpu in gpus}):
        where = one.gpu or "none"
        size = f"{one.size / 2**20:,.0f} MiB, {one.reason}" if one.gpu else one.reason
        lines.append(f"python -m workers --model {one.model} --gpu {where}   # {size}")
    return "\n".join(lines)


def _estimate(settings: Settings, start: Start) -> MemoryEstimate:
    frame = engine_model(start.entry, models_root(settings), start.resolved, on_gpu=start.on_gpu)
    model = EngineModel.parse(frame)
    try:
        for path in filter(None, (model.mmproj_path, model.model_path)):
            header = read_header(Path(path))
        return planned_memory(model, header, on_gpu=start.on_gpu)
    except EngineError as exc:
        raise InvalidConfig(exc.message, code=exc.code, field=exc.field, remedy=exc.remedy) from exc


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
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        catalogue = load_catalogue(settings.models)
        models = [catalogue.model(name) for name in arguments.model or catalogue.model_names]
        there = list_gpus()
        if arguments.what == "show":
            print(show(settings, models, choose_gpus(there, arguments.gpu), arguments.profile))
        else:
            chosen = there if arguments.gpu == "auto" else choose_gpus(there, arguments.gpu)
            print(plan(settings, models, chosen))
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
