"""Which workers fit this machine: one for each model, on its GPU or in the memory that holds it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OVERHEAD_BYTES = 200_000_000
"""Memory of a worker beside its model: Python, Celery, the buffers of requests."""


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model of the catalogue, what it takes in bytes (None if there is no such file), and the UUID of the
    GPU that it was given, None for the processor."""

    name: str
    path: str
    size: int | None
    gpu: str | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """One worker: its model, and the UUID of its GPU (None for the CPU)."""

    model: str
    gpu: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The workers, in the catalogue's order, and why a model gets none."""

    workers: tuple[Placement, ...]
    skipped: Mapping[str, str]


def fit(models: Sequence[ModelNeed], memory: int) -> Plan:
    """One worker a model: on its GPU, or on the CPU as long as `memory` (bytes that are free) holds it.

    How many threads a worker takes it decides itself, from the cores it may use: the workers of a
    machine rarely have full slots at the same moment, and the spinning of idle threads is bounded.
    """
    chosen: list[Placement] = []
    skipped: dict[str, str] = {}
    for model in models:
        if model.size is None:
            skipped[model.name] = f"there is no file {model.path}"
            continue
        need = OVERHEAD_BYTES if model.gpu is not None else model.size + OVERHEAD_BYTES
        if memory >= need:
            memory -= need
            chosen.append(Placement(model.name, model.gpu))
        else:
            skipped[model.name] = f"needs {need / 1e9:.1f} GB of memory, {memory / 1e9:.1f} GB are left"
    return Plan(tuple(chosen), skipped)
