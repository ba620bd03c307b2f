"""The sizes of a context: cells, rows, sequence ids, and whether all sequences share one pool. Pure.

It knows settings and the size of the file, not the model; `estimate` turns a shape into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workers.engine.model import MAX_SEQUENCES, EngineModel

CHOICE_ROWS: Final = 64
"""Rows of a step for choices, beside its budget."""
MIN_SHARED: Final = 8
"""Shorter beginnings cost more to look up and copy than to compute again."""
KEPT_UNIFIED: Final = 32
KEPT_SEPARATE: Final = 4
"""Sequence ids for kept beginnings: in one pool, and in separate memories, where each has its own cells."""
FORKS_UNIFIED: Final = 32
FORKS_SEPARATE: Final = (4, 8)
"""For few and for many slots. Fewer than in a unified memory: each has all the cells of a slot, and is copied
whole."""
_SMALL_MODEL_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ContextShape:
    """Sizes of a context. `n_cells` is the total over all sequences."""

    n_cells: int
    n_batch: int
    n_ubatch: int
    n_sequences: int
    n_outputs: int
    n_threads: int
    n_threads_batch: int
    unified: bool


def choose_unified(settings: EngineModel, file_size: int, *, on_gpu: bool) -> bool:
    """Whether all sequences share one pool of cells.

    In one pool a shared beginning costs nothing and a step is one pass, but attention covers all cells.
    Measured on a 4-layer model of 2.5 MB at 32 slots, separate memories gave 136 jobs/s and one pool 112;
    where reading the weights dominates, the second pass of a mixed step costs more than the attention.
    """
    if settings.kv_unified is not None:
        return settings.kv_unified
    if settings.n_cells is not None:
        return True
    return on_gpu or file_size > _SMALL_MODEL_BYTES


def choose_in_graph(settings: EngineModel, *, on_gpu: bool) -> bool:
    """Whether candidates are found on the device; by itself only where the output layer is on a GPU, for
    elsewhere there is nothing to copy."""
    if settings.in_graph_sampling == "auto":
        return on_gpu and settings.n_gpu_layers == -1
    return bool(settings.in_graph_sampling)


def choose_min_shared(settings: EngineModel, *, unified: bool) -> int:
    """The shortest beginning worth reusing: separate memories are copied whole, all `n_ctx` cells of them."""
    return MIN_SHARED if unified else max(MIN_SHARED, settings.n_ctx // 64)


def choose_kept_cells(settings: EngineModel, kept: int, *, unified: bool) -> int:
    """Cells for kept beginnings: in one pool attention reads over them, so no more than needed."""
    if not unified:
        return kept * settings.n_ctx
    if settings.kept_cells is not None:
        return settings.kept_cells
    return settings.n_ctx * (1 + settings.n_slots // 8)


def plan_shape(
    settings: EngineModel, n_threads: int, *, unified: bool, shares: bool
) -> tuple[ContextShape, int, int]:
    """The context's sizes, and how many sequence ids are for kept beginnings and for forks."""
    ids = MAX_SEQUENCES - settings.n_slots
    # with very many slots both have some: labels without a fork take a step each
    fewest, most = (FORKS_UNIFIED, FORKS_UNIFIED) if unified else FORKS_SEPARATE
    forks = min(max(fewest, settings.n_slots // 2), most, ids // 2)
    kept = min(KEPT_UNIFIED if unified else KEPT_SEPARATE, ids - forks) if shares else 0
    # a step carries at least one row of every slot, and rows for choices beside its budget
    n_batch = max(settings.n_batch, settings.n_slots) + CHOICE_ROWS
    n_sequences = settings.n_slots + kept + forks
    if unified:
        # beyond the slots' own cells there are some for kept beginnings and the labels of choices
        spare = max(choose_kept_cells(settings, kept, unified=True), CHOICE_ROWS)
        cells = settings.n_cells or settings.n_ctx * settings.n_slots + spare
    else:
        cells = settings.n_ctx * n_sequences
    shape = ContextShape(
        n_cells=cells,
        n_batch=n_batch,
        n_ubatch=max(settings.n_ubatch, settings.n_slots),
        n_sequences=n_sequences,
        n_outputs=max(n_sequences, settings.n_slots + CHOICE_ROWS),
        n_threads=n_threads,
        n_threads_batch=settings.n_threads_batch or n_threads,
        unified=unified,
    )
    return shape, kept, forks
