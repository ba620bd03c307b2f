"""Which workers fit this machine: one for each model whose file is there and whose weights fit. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OVERHEAD_BYTES = 200_000_000
"""Memory of a worker beside its weights: Python, Celery, the engine's buffers."""


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """A model of the catalogue and the size of its file in bytes, None if there is no such file."""

    name: str
    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The models that get a worker, in the catalogue's order, and why others get none."""

    models: tuple[str, ...]
    skipped: Mapping[str, str]


def fit(models: Sequence[ModelNeed], memory: int) -> Plan:
    """One worker a model, as long as `memory` (bytes that are free) holds their weights.

    How many threads a worker takes it decides itself, from the cores it may use: the workers of a
    machine rarely have full slots at the same moment, and the spinning of idle threads is bounded.
    """
    chosen: list[str] = []
    skipped: dict[str, str] = {}
    left = memory
    for model in models:
        need = (model.size or 0) + OVERHEAD_BYTES
        if model.size is None:
            skipped[model.name] = f"there is no file {model.path}"
        elif need > left:
            skipped[model.name] = f"needs {need / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are left"
        else:
            chosen.append(model.name)
            left -= need
    return Plan(tuple(chosen), skipped)
