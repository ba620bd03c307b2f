"""How much memory a model takes on its device, from the GGUF's header and the context's sizes.

Three parts that llama.cpp allocates, each a little above what it reports (tests compare): weights, the KV
cache, and the compute buffer of the largest step; on a GPU a margin for what CUDA itself takes. It is an
upper bound for models with sliding windows or with fewer heads in some layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from workers.engine.errors import OUT_OF_MEMORY, EngineError
from workers.engine.gguf_file import GgufHeader
from workers.engine.model import EngineModel
from workers.engine.shape import ContextShape, choose_unified, plan_shape

GPU_MARGIN: Final = 512 << 20
"""For CUDA's context, its kernels and cuBLAS's workspace: our rule of thumb, not measured."""
_LARGE_VOCABULARY: Final = 1 << 17
"""For files that do not say how many tokens they have."""
_CELL_PADDING: Final = 256
"""llama.cpp rounds the cells of a sequence, or of the pool, up to this."""
_BYTES: Final = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the device that holds the model's layers."""

    weights: int
    cache: int
    compute: int
    margin: int

    @property
    def total(self) -> int:
        """All parts together."""
        return self.weights + self.cache + self.compute + self.margin

    def __str__(self) -> str:
        parts = (("weights", self.weights), ("KV cache", self.cache), ("compute", self.compute))
        text = " + ".join(f"{name} {size / 2**20:,.0f}" for name, size in parts)
        return f"{text} + margin {self.margin / 2**20:,.0f} = {self.total / 2**20:,.0f} MiB"


def planned_memory(settings: EngineModel, header: GgufHeader, *, on_gpu: bool) -> MemoryEstimate:
    """The estimate for the context that the loader would make, and an image encoder on the same device."""
    file_size = Path(settings.model_path).stat().st_size
    encoder = 0
    if settings.mmproj_path is not None and (settings.mmproj_offload or not on_gpu):
        encoder = Path(settings.mmproj_path).stat().st_size
    unified = choose_unified(settings, file_size, on_gpu=on_gpu)
    shape, _, _ = plan_shape(settings, 1, unified=unified, shares=settings.prefix_cache)
    estimate = estimate_memory(header, file_size, settings, shape, on_gpu=on_gpu)
    return replace(estimate, weights=estimate.weights + encoder)


def check_fits(estimate: MemoryEstimate, free: int, settings: EngineModel) -> None:
    """Raise EngineError (out_of_memory) where `estimate` is over the model's budget or over `free` bytes."""
    budget = settings.memory_budget
    if budget is not None and estimate.total > budget:
        over, field = f"its memory_budget of {budget / 2**20:,.0f} MiB", "memory_budget"
    elif estimate.total > free:
        over, field = f"the {free / 2**20:,.0f} MiB that are free on the GPU", "n_gpu_layers"
    else:
        return
    raise EngineError(
        OUT_OF_MEMORY,
        f"{settings.model_name} needs more than {over}: {estimate}",
        field=field,
        remedy="lower n_slots, n_ctx or n_gpu_layers, set type_k and type_v to q8_0, raise memory_budget, or "
        "give the model another GPU (python -m workers.hardware plan)",
    )


def estimate_memory(
    header: GgufHeader, file_size: int, settings: EngineModel, shape: ContextShape, *, on_gpu: bool
) -> MemoryEstimate:
    """What loading `settings` with a context of `shape` takes on a GPU, or on the CPU where not `on_gpu`."""
    layers = _number(header, "block_count", 1)
    # the output layer counts as one more
    offloaded = layers + 1 if settings.n_gpu_layers < 0 else min(settings.n_gpu_layers, layers + 1)
    share = offloaded / (layers + 1) if on_gpu else 1.0
    cache = kv_bytes(header, settings, shape)
    if on_gpu:
        cache = int(cache * min(1.0, offloaded / layers)) if settings.offload_kqv else 0
    return MemoryEstimate(
        weights=int(file_size * share),
        cache=cache,
        compute=compute_bytes(header, settings, shape) if share else 0,
        margin=GPU_MARGIN if on_gpu else 0,
    )


def kv_bytes(header: GgufHeader, settings: EngineModel, shape: ContextShape) -> int:
    """Bytes of the KV cache: for each cell and layer the keys and values of every KV head."""
    heads = _number(header, "attention.head_count", 1)
    kv_heads = _number(header, "attention.head_count_kv", heads)
    usual = _number(header, "embedding_length", 0) // heads
    keys = _number(header, "attention.key_length", usual)
    values = _number(header, "attention.value_length", usual)
    cell = kv_heads * (keys * _BYTES[settings.type_k] + values * _BYTES[settings.type_v])
    return int(_all_cells(shape) * _number(header, "block_count", 1) * cell)


def compute_bytes(header: GgufHeader, settings: EngineModel, shape: ContextShape) -> int:
    """Bytes of the compute buffer: a step's activations or logits, its mask, and without flash attention the
    attention scores themselves."""
    rows = min(shape.n_ubatch, shape.n_batch)
    width = 6 * _number(header, "embedding_length", 0) + 3 * _number(header, "feed_forward_length", 0)
    logits = min(shape.n_outputs, rows) * _number(header, "vocab_size", _LARGE_VOCABULARY)
    seen = _padded(shape.n_cells) if shape.unified else _padded(shape.n_cells // shape.n_sequences)
    if settings.flash_attn is False:
        attention = rows * seen * 4 * (1 + _number(header, "attention.head_count", 1))
    else:
        attention = rows * seen * 2
    return 4 * max(rows * width, logits) + attention


def _all_cells(shape: ContextShape) -> int:
    if shape.unified:
        return _padded(shape.n_cells)
    return shape.n_sequences * _padded(shape.n_cells // shape.n_sequences)


def _padded(cells: int) -> int:
    return -(-cells // _CELL_PADDING) * _CELL_PADDING


def _number(header: GgufHeader, name: str, default: int) -> int:
    value = header.metadata.get(f"{header.architecture}.{name}")
    return value if isinstance(value, int) and value > 0 else default
