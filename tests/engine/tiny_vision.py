"""Writes random-weights image encoders with a projector (mmproj GGUFs) for the tiny text model, for tests.

They are real files for the real mtmd library: a LLaVA-style one (the benchmarks' own), a MiniCPM-V-style one
(a SigLIP encoder and a resampler, which cuts larger images into slices) and a Gemma-3-style one (whose
positions see each other both ways). Names of keys and tensors are those that mtmd's clip loader reads.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.vision_file import (
    IMAGE_SIZE,
    LLAVA_POSITIONS,
    PATCH,
    WIDTH,
    encoder_shapes,
    encoder_writer,
    finish,
    write_llava,
)

__all__ = ["IMAGE_SIZE", "LLAVA_POSITIONS", "PATCH", "write_llava"]

QUERIES = 12
"""Positions of each slice with the MiniCPM-V-style projector."""
SLICE_MARKERS = ("<image>", "</image>", "<slice>", "</slice>")
"""Control tokens that the text model of a MiniCPM-V-style projector must have."""
_BUCKETS = 70
"""MiniCPM-V's table of learned positions has 70 × 70 rows, whatever the image's size."""


def write_minicpmv(path: Path, *, width: int = 256, version: int = 3, seed: int = 13) -> Path:
    """A MiniCPM-V-style mmproj for a text model of `width`, a multiple of 128 (the resampler's heads)."""
    writer = encoder_writer(path, "resampler")
    writer.add_bool("clip.use_gelu", True)
    writer.add_int32("clip.minicpmv_version", version)
    writer.add_uint32("clip.minicpmv_query_num", QUERIES)
    shapes = [
        ("v.position_embd.weight", (_BUCKETS * _BUCKETS, WIDTH)),
        ("v.post_ln.weight", (WIDTH,)),
        ("v.post_ln.bias", (WIDTH,)),
        *encoder_shapes(),
        ("resampler.query", (QUERIES, width)),
        ("resampler.pos_embed_k", (1, width)),
        ("resampler.kv.weight", (width, WIDTH)),
        ("resampler.proj.weight", (width, width)),
    ]
    for part in ("q", "k", "v", "out"):
        shapes += [
            (f"resampler.attn.{part}.weight", (width, width)),
            (f"resampler.attn.{part}.bias", (width,)),
        ]
    for part in ("q", "kv", "post"):
        shapes += [(f"resampler.ln_{part}.weight", (width,)), (f"resampler.ln_{part}.bias", (width,))]
    return finish(writer, path, shapes, seed)


def write_gemma3(path: Path, *, width: int = 256, seed: int = 17) -> Path:
    """A Gemma-3-style mmproj: as many positions as the LLaVA-style one, which see each other both ways."""
    writer = encoder_writer(path, "gemma3")
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.projector.scale_factor", 1)
    shapes = [
        ("v.position_embd.weight", (LLAVA_POSITIONS, WIDTH)),
        ("v.post_ln.weight", (WIDTH,)),
        ("v.post_ln.bias", (WIDTH,)),
        *encoder_shapes(),
        ("mm.input_projection.weight", (WIDTH, width)),
        ("mm.soft_emb_norm.weight", (WIDTH,)),
    ]
    return finish(writer, path, shapes, seed)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Pixels [height, width, 3] as a PNG file."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in pixels)
    return png_file(width, height, zlib.compress(rows))


def png_file(width: int, height: int, body: bytes) -> bytes:
    """A PNG whose header says `width` × `height` (8-bit RGB), with `body` as its pixel data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def picture(seed: int, width: int = IMAGE_SIZE, height: int = IMAGE_SIZE) -> bytes:
    """A PNG of large random blocks, different for each seed."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (4, 4, 3), np.uint8)
    rows = np.arange(height) * 4 // height
    columns = np.arange(width) * 4 // width
    return png(blocks[rows][:, columns])


def look(*parts: Any, system: str | None = None) -> dict[str, Any]:
    """A request about pictures and texts, in their order."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    messages = [{"role": "system", "content": system}] if system else []
    return {"messages": [*messages, {"role": "user", "content": content}]}
