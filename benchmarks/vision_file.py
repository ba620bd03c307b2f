"""Writes an image encoder with a projector (an mmproj GGUF) of random weights for a text model of any width.

LLaVA-style: a CLIP encoder and a two-layer projector. It is a real file for the real mtmd library; names of
keys and tensors are those that mtmd's clip loader reads. It knows the file's layout, not who reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

PATCH = 14
IMAGE_SIZE = 56
"""Pixels of a side: 4 × 4 patches, so an image has 16 positions with the LLaVA-style projector."""
LLAVA_POSITIONS = (IMAGE_SIZE // PATCH) ** 2
WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 128, 3

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_llava(
    path: Path, *, width: int = 256, pinpoints: tuple[tuple[int, int], ...] = (), seed: int = 11
) -> Path:
    """A LLaVA-style mmproj for a text model of `width`; with `pinpoints` (pixels) it tiles as LLaVA-1.6."""
    writer = encoder_writer(path, "mlp")
    writer.add_bool("clip.use_gelu", False)
    if pinpoints:
        writer.add_array("clip.vision.image_grid_pinpoints", [side for point in pinpoints for side in point])
    shapes = [
        ("v.class_embd", (WIDTH,)),
        ("v.position_embd.weight", (LLAVA_POSITIONS + 1, WIDTH)),
        ("v.pre_ln.weight", (WIDTH,)),
        ("v.pre_ln.bias", (WIDTH,)),
        *encoder_shapes(),
        ("mm.0.weight", (width, WIDTH)),
        ("mm.0.bias", (width,)),
        ("mm.2.weight", (width, width)),
        ("mm.2.bias", (width,)),
    ]
    return finish(writer, path, shapes, seed)


def encoder_writer(path: Path, projector: str) -> gguf.GGUFWriter:
    """The file of an encoder with a projector of this type, its header written so far."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_name("tiny vision")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", projector)
    writer.add_uint32("clip.vision.image_size", IMAGE_SIZE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.embedding_length", WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", HIDDEN)
    writer.add_uint32("clip.vision.block_count", LAYERS)
    writer.add_uint32("clip.vision.projection_dim", WIDTH)
    writer.add_uint32("clip.vision.attention.head_count", HEADS)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    return writer


def encoder_shapes() -> Shapes:
    """Names and sizes of the encoder's own weights."""
    yield "v.patch_embd.weight", (WIDTH, 3, PATCH, PATCH)
    yield "v.patch_embd.bias", (WIDTH,)
    for layer in range(LAYERS):
        at = f"v.blk.{layer}."
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield f"{at}{part}.weight", (WIDTH, WIDTH)
            yield f"{at}{part}.bias", (WIDTH,)
        for part in ("ln1", "ln2"):
            yield f"{at}{part}.weight", (WIDTH,)
            yield f"{at}{part}.bias", (WIDTH,)
        yield f"{at}ffn_up.weight", (HIDDEN, WIDTH)
        yield f"{at}ffn_up.bias", (HIDDEN,)
        yield f"{at}ffn_down.weight", (WIDTH, HIDDEN)
        yield f"{at}ffn_down.bias", (WIDTH,)


def finish(writer: gguf.GGUFWriter, path: Path, shapes: list[tuple[str, tuple[int, ...]]], seed: int) -> Path:
    """Write random weights of these shapes and close the file."""
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
