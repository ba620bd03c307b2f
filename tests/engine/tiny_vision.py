"""Writes random-weights image encoders with a projector (mmproj GGUFs) for the tiny text model, for tests.

They are real files for the real mtmd library: a LLaVA-style one (a CLIP encoder and a two-layer projector), a
MiniCPM-V-style one (a SigLIP encoder and a resampler, which cuts larger images into slices) and a
Gemma-3-style one (whose positions see each other both ways). Names of keys and tensors are those that mtmd's
clip loader reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

PATCH = 14
IMAGE_SIZE = 56
"""Pixels of a side: 4 × 4 patches, so an image has 16 positions with the LLaVA-style projector."""
LLAVA_POSITIONS = (IMAGE_SIZE // PATCH) ** 2
QUERIES = 12
"""Positions of each slice with the MiniCPM-V-style projector."""
SLICE_MARKERS = ("<image>", "</image>", "<slice>", "</slice>")
"""Control tokens that the text model of a MiniCPM-V-style projector must have."""
_WIDTH, _HEADS, _HIDDEN, _LAYERS = 64, 4, 128, 3
_BUCKETS = 70
"""MiniCPM-V's table of learned positions has 70 × 70 rows, whatever the image's size."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_llava(
    path: Path, *, width: int = 256, pinpoints: tuple[tuple[int, int], ...] = (), seed: int = 11
) -> Path:
    """A LLaVA-style mmproj for a text model of `width`; with `pinpoints` (pixels) it tiles as LLaVA-1.6."""
    writer = _writer(path, "mlp")
    writer.add_bool("clip.use_gelu", False)
    if pinpoints:
        writer.add_array("clip.vision.image_grid_pinpoints", [side for point in pinpoints for side in point])
    shapes = [
        ("v.class_embd", (_WIDTH,)),
        ("v.position_embd.weight", (LLAVA_POSITIONS + 1, _WIDTH)),
        ("v.pre_ln.weight", (_WIDTH,)),
        ("v.pre_ln.bias", (_WIDTH,)),
        *_encoder(),
        ("mm.0.weight", (width, _WIDTH)),
        ("mm.0.bias", (width,)),
        ("mm.2.weight", (width, width)),
        ("mm.2.bias", (width,)),
    ]
    return _finish(writer, path, shapes, seed)


def write_minicpmv(path: Path, *, width: int = 256, version: int = 3, seed: int = 13) -> Path:
    """A MiniCPM-V-style mmproj for a text model of `width`, a multiple of 128 (the resampler's heads)."""
    writer = _writer(path, "resampler")
    writer.add_bool("clip.use_gelu", True)
    writer.add_int32("clip.minicpmv_version", version)
    writer.add_uint32("clip.minicpmv_query_num", QUERIES)
    shapes = [
        ("v.position_embd.weight", (_BUCKETS * _BUCKETS, _WIDTH)),
        ("v.post_ln.weight", (_WIDTH,)),
        ("v.post_ln.bias", (_WIDTH,)),
        *_encoder(),
        ("resampler.query", (QUERIES, width)),
        ("resampler.pos_embed_k", (1, width)),
        ("resampler.kv.weight", (width, _WIDTH)),
        ("resampler.proj.weight", (width, width)),
    ]
    for part in ("q", "k", "v", "out"):
        shapes += [
            (f"resampler.attn.{part}.weight", (width, width)),
            (f"resampler.attn.{part}.bias", (width,)),
        ]
    for part in ("q", "kv", "post"):
        shapes += [(f"resampler.ln_{part}.weight", (width,)), (f"resampler.ln_{part}.bias", (width,))]
    return _finish(writer, path, shapes, seed)


def write_gemma3(path: Path, *, width: int = 256, seed: int = 17) -> Path:
    """A Gemma-3-style mmproj: as many positions as the LLaVA-style one, which see each other both ways."""
    writer = _writer(path, "gemma3")
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.projector.scale_factor", 1)
    shapes = [
        ("v.position_embd.weight", (LLAVA_POSITIONS, _WIDTH)),
        ("v.post_ln.weight", (_WIDTH,)),
        ("v.post_ln.bias", (_WIDTH,)),
        *_encoder(),
        ("mm.input_projection.weight", (_WIDTH, width)),
        ("mm.soft_emb_norm.weight", (_WIDTH,)),
    ]
    return _finish(writer, path, shapes, seed)


def _writer(path: Path, projector: str) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name("tiny vision")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", projector)
    writer.add_uint32("clip.vision.image_size", IMAGE_SIZE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.embedding_length", _WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", _HIDDEN)
    writer.add_uint32("clip.vision.block_count", _LAYERS)
    writer.add_uint32("clip.vision.projection_dim", _WIDTH)
    writer.add_uint32("clip.vision.attention.head_count", _HEADS)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    return writer


def _encoder() -> Shapes:
    yield "v.patch_embd.weight", (_WIDTH, 3, PATCH, PATCH)
    yield "v.patch_embd.bias", (_WIDTH,)
    for layer in range(_LAYERS):
        at = f"v.blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield f"{at}{part}.weight", (_WIDTH, _WIDTH)
            yield f"{at}{part}.bias", (_WIDTH,)
        for part in ("ln1", "ln2"):
            yield f"{at}{part}.weight", (_WIDTH,)
            yield f"{at}{part}.bias", (_WIDTH,)
        yield f"{at}ffn_up.weight", (_HIDDEN, _WIDTH)
        yield f"{at}ffn_up.bias", (_HIDDEN,)
        yield f"{at}ffn_down.weight", (_WIDTH, _HIDDEN)
        yield f"{at}ffn_down.bias", (_WIDTH,)


def _finish(
    writer: gguf.GGUFWriter, path: Path, shapes: list[tuple[str, tuple[int, ...]]], seed: int
) -> Path:
    for name, shape in shapes:
        writer.add_tensor(name, _weights(name, shape, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(name: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32]:
    if len(shape) == 1 and name.endswith("weight"):
        return np.ones(shape, np.float32)
    random = np.random.default_rng([seed, *name.encode()])
    weights = random.standard_normal(shape).astype(np.float32)
    if len(shape) == 1:
        return 0.1 * weights
    # every pixel must reach the text: inputs keep their size through each product
    return weights * np.float32(1.0 / np.prod(shape[1:]) ** 0.5)


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
