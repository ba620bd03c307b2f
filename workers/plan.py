"""Where each model of the catalogue would run: sizes estimated, the build asked, cards packed.

    entry, GPU ─► prepare ─► does the build run there? ─► estimate ─► place ─► a GPU or the processor, and why

It loads no model and starts no worker. The build is asked in a child process, and only where there is a GPU.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.catalogue import LlamaEntry, ModelEntry
from batchyard.entry import OnnxEntry
from batchyard.errors import InvalidConfig
from batchyard.settings import Settings
from workers.checks import gpu_findings
from workers.engine.build_facts import BuildFacts, build_facts
from workers.engine.errors import EngineError
from workers.engine.estimate import GPU_MARGIN, MemoryEstimate, planned_memory
from workers.engine.gguf_file import read_header
from workers.engine.model import EngineModel
from workers.gpu import Gpu, pin_environment
from workers.placement import Need, Placement, place
from workers.requests import engine_model, root_path
from workers.start import Start, models_root, prepare


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What one model would take: on each GPU that it can use, and on the processor, with the reason for that
    where it can use none."""

    need: Need
    on_cpu: int
    reason: str


def plan(
    settings: Settings, models: Sequence[ModelEntry], gpus: Sequence[Gpu], build: BuildFacts | None
) -> list[Placement]:
    """A place for each model, in their order: a GPU, or None for the processor with the bytes it takes there
    (0 where its file cannot be read). `build` is llama.cpp's as it sees these GPUs; None speaks for no place.

    Raises:
        InvalidConfig: the hardware file is wrong, or no profile fits.
    """
    candidates = [_candidate(settings, entry, gpus, build) for entry in models]
    there = place([one.need for one in candidates if one.need.sizes], {gpu.uuid: gpu.free for gpu in gpus})
    placed = {one.model: one for one in there}
    found = []
    for one in candidates:
        on_gpu = placed.get(one.need.model)
        if on_gpu is not None and on_gpu.gpu is not None:
            found.append(on_gpu)
        else:
            reason = one.reason if on_gpu is None else on_gpu.reason
            found.append(Placement(one.need.model, None, one.on_cpu, reason))
    return found


def _candidate(
    settings: Settings, entry: ModelEntry, gpus: Sequence[Gpu], build: BuildFacts | None
) -> _Candidate:
    name, reason = entry.model_name, "it runs on no GPU"
    sizes: dict[str, int] = {}
    budgets: dict[str, int] = {}
    try:
        for gpu in gpus if entry.wants_gpu else ():
            try:
                start = prepare(settings, entry, [gpu])
            except InvalidConfig as exc:
                reason = exc.message  # a model to be split over several GPUs is none for one
                continue
            fault = _fault(start, build) if start.on_gpu else None
            if fault is not None:
                reason = fault
            elif start.on_gpu:
                sizes[gpu.uuid] = size_of(settings, start)
                if start.budget is not None:
                    budgets[gpu.uuid] = start.budget
        on_cpu = size_of(settings, prepare(settings, entry, ()))
    except EngineError as exc:
        return _Candidate(Need(name, {}, {}), 0, exc.message)
    if not gpus and entry.wants_gpu:
        reason = "there is no GPU"
    return _Candidate(Need(name, sizes, budgets), on_cpu, reason)


def _fault(start: Start, build: BuildFacts | None) -> str | None:
    """Why this build cannot put the model onto its GPU."""
    if build is None or not isinstance(start.entry, LlamaEntry):
        return None
    fatal = [one for one in gpu_findings(start.gpus, start.profile, build) if one.fatal]
    return f"{fatal[0].message}; {fatal[0].remedy}" if fatal else None


def build_for(gpus: Sequence[Gpu]) -> BuildFacts | None:
    """llama.cpp's build as it sees these GPUs; None without GPUs, or without a library that can be asked: a
    plan may be made for workers in containers."""
    if not gpus:
        return None
    try:
        return build_facts(os.environ | pin_environment(gpus))
    except EngineError:
        return None


def size_of(settings: Settings, start: Start) -> int:
    """Bytes that the model takes where it would run; 0 for an endpoint. What a classifier's run takes nobody
    knows before; its weights and CUDA's own part are counted.

    Raises:
        EngineError: its file is missing or no model.
    """
    if isinstance(start.entry, LlamaEntry):
        return estimate(settings, start).total
    if isinstance(start.entry, OnnxEntry):
        path = Path(root_path(models_root(settings), start.entry.model_path))
        weights = path.stat().st_size if path.is_file() else 0
        return weights + (GPU_MARGIN if start.on_gpu else 0)
    return 0


def estimate(settings: Settings, start: Start) -> MemoryEstimate:
    """The engine's own estimate for a GGUF.

    Raises:
        EngineError: its file is missing or no GGUF.
    """
    model = EngineModel.parse(
        engine_model(start.entry, models_root(settings), start.resolved, on_gpu=start.on_gpu)
    )
    if model.mmproj_path is not None:
        read_header(Path(model.mmproj_path))
    return planned_memory(model, read_header(Path(model.model_path)), on_gpu=start.on_gpu)
