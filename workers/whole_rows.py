"""How many rows a model must compute at once, whatever a hardware profile thinks of steps. Pure.

A profile's `n_batch` and `n_ubatch` are about how long a step takes. A text to embed, and an image whose rows
see each other both ways, cannot be cut into steps: fewer rows than it has and it cannot be computed at all.
"""

from dataclasses import dataclass
from typing import Final

from batchyard.catalogue import LlamaEntry
from workers.engine.gguf_file import GgufHeader

WHOLE_TEXT = "a whole text"
WHOLE_IMAGE = "a whole image"
_LAST: Final = 3
"""llama.cpp's number of the pooling `last`, LLAMA_POOLING_TYPE_LAST."""
_MOST_POSITIONS: Final = {"gemma4v": 1120, "gemma4uv": 1120}
"""By projector: the most positions of an image, where the encoder has a choice and nobody bounds it (mtmd's
default). With `gemma3`, whose size is fixed, these are the ones whose rows see each other both ways."""


@dataclass(frozen=True, slots=True)
class WholeRows:
    """Rows that a step (`n_batch`) and a micro-batch (`n_ubatch`) must hold, and why."""

    n_batch: int
    n_ubatch: int
    reason: str


def whole_rows(
    entry: LlamaEntry, model: GgufHeader | None = None, encoder: GgufHeader | None = None
) -> WholeRows | None:
    """What `entry` must compute at once, None where it may be cut; the headers are of its model and its image
    encoder, None for a file that is not there."""
    if entry.embedding:
        rows = min(entry.n_ctx, _number(model, "context_length", entry.n_ctx))
        # of causal rows the last one needs no others beside it
        cut = _pools_last(entry, model) and _own(model, "attention.causal") is not False
        return WholeRows(rows, 1 if cut else rows, WHOLE_TEXT)
    if entry.mmproj_path is not None and encoder is not None:
        rows = min(entry.n_ctx, _image_rows(entry, encoder))
        return WholeRows(rows, rows, WHOLE_IMAGE) if rows else None
    return None


def _image_rows(entry: LlamaEntry, encoder: GgufHeader) -> int:
    """Positions of one image whose rows see each other both ways; 0 for other encoders."""
    found = encoder.metadata.get("clip.vision.projector_type") or encoder.metadata.get("clip.projector_type")
    if found == "gemma3":
        side = _number(encoder, "vision.image_size", 896) // _number(encoder, "vision.patch_size", 14)
        return int((side // _number(encoder, "vision.projector.scale_factor", 4)) ** 2)
    most = _MOST_POSITIONS.get(str(found), 0)
    return entry.image_max_tokens or most if most else 0


def _pools_last(entry: LlamaEntry, model: GgufHeader | None) -> bool:
    if entry.pooling_type is not None:
        return entry.pooling_type == "last"
    return _own(model, "pooling_type") == _LAST


def _own(header: GgufHeader | None, name: str) -> object:
    return None if header is None else header.metadata.get(f"{header.architecture}.{name}")


def _number(header: GgufHeader | None, name: str, default: int) -> int:
    value = _own(header, name)
    return value if isinstance(value, int) and value > 0 else default
