"""Which workers fit this machine: one for each model, on the GPU or in the memory that holds it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OVERHEAD_BYTES = 200_000_000
"""Memory of a worker beside its weights: Python, Celery, the engine's buffers."""


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model of the catalogue and the size of its file in bytes, None if there is no such file; `gpu`:
    whether it can use one."""

    name: str
    path: str
    size: int | None
    gpu: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """A place for workers: a GPU by its UUID, or the machine's own memory (None). `free` in bytes."""

    gpu: str | None
    free: int


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


def fit(models: Sequence[ModelNeed], memory: int, gpus: Sequence[Room] = ()) -> Plan:
    """One worker a model: on the GPU with the most room left if it can use one, else on the CPU, as long as
    `memory` (bytes that are free) holds the weights.

    How many threads a worker takes it decides itself, from the cores it may use: the workers of a
    machine rarely have full slots at the same moment, and the spinning of idle threads is bounded.
    """
    rooms = {room.gpu: room.free for room in gpus}
    chosen: list[Placement] = []
    skipped: dict[str, str] = {}
    for model in models:
        if model.size is None:
            skipped[model.name] = f"there is no file {model.path}"
            continue
        need = model.size + OVERHEAD_BYTES
        best = max(rooms, key=lambda gpu: rooms[gpu], default=None) if model.gpu else None
        if best is not None and rooms[best] >= need:
            rooms[best] -= need
            chosen.append(Placement(model.name, best))
        elif memory >= need:
            memory -= need
            chosen.append(Placement(model.name, None))
        else:
            skipped[model.name] = f"needs {need / 1e9:.1f} GB of memory, {memory / 1e9:.1f} GB are left"
    return Plan(tuple(chosen), skipped)
