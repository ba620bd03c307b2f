"""Image files to rows of embeddings, with both kinds of projector."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_cpp import mtmd_cpp as m

from workers.engine.errors import EngineError
from workers.engine.images import Slot
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.llama.vision import Picture, Projector
from workers.engine.model import EngineModel

Open = Callable[[Path], Projector]


@pytest.fixture(scope="module")
def open_projector(seeing_model: Path) -> Iterator[Open]:
    log = Log(verbose=False)
    settings = EngineModel("seeing", str(seeing_model))
    model = Model(settings, use_extra_bufts=False, log=log)
    opened: list[Projector] = []

    def open_one(path: Path) -> Projector:
        opened.append(Projector(model, str(path), settings, 1, log, on_gpu=False))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    model.close()


def layout(picture: Picture) -> list[int | list[int]]:
    """Slots as their number of rows, tokens as they are."""
    return [piece.rows if isinstance(piece, Slot) else piece.tolist() for piece in picture.pieces]


def rows_of(picture: Picture) -> list[Any]:
    return [picture.encode(piece) for piece in picture.pieces if isinstance(piece, Slot)]


def test_a_llava_image_is_one_slot_whatever_its_size(open_projector: Open, llava: Path, vision: Any) -> None:
    projector = open_projector(llava)
    small, wide = projector.open(vision.picture(1, 1, 1)), projector.open(vision.picture(1, 300, 90))
    assert layout(small) == layout(wide) == [vision.LLAVA_POSITIONS]
    (rows,) = rows_of(wide)
    assert rows.shape == (vision.LLAVA_POSITIONS, projector.width) and rows.dtype == np.float32
    assert np.isfinite(rows).all() and rows.std() > 0.1
    assert not projector.non_causal


def test_a_minicpmv_image_is_cut_into_marked_slices(
    open_projector: Open, minicpmv: Path, vision: Any, tiny: Any
) -> None:
    words = [*tiny.vocabulary(), *vision.SLICE_MARKERS]
    start, end, slice_start, slice_end = (words.index(marker) for marker in vision.SLICE_MARKERS)
    projector = open_projector(minicpmv)
    assert layout(projector.open(vision.picture(1))) == [[start], vision.QUERIES, [end]]
    cut = layout(projector.open(vision.picture(1, 112, 56)))
    assert cut == [
        [start], vision.QUERIES, [end, slice_start], vision.QUERIES, [slice_end, slice_start],
        vision.QUERIES, [slice_end],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["llava", "minicpmv"])
def test_rows_are_the_image_s_own(open_projector: Open, vision: Any, request: Any, kind: str) -> None:
    projector = open_projector(request.getfixturevalue(kind))
    one, same, other = (rows_of(projector.open(vision.picture(seed)))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


def test_rows_are_those_of_mtmd_s_own_encoding(open_projector: Open, llava: Path, vision: Any) -> None:
    projector = open_projector(llava)
    data = vision.picture(3)
    (rows,) = rows_of(projector.open(data))
    text = m.mtmd_input_text(b"<__media__>", 11, False, False)
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    bitmap = m.mtmd_helper_bitmap_init_from_buf(projector._pointer, buffer, len(data), False)
    chunks = m.mtmd_input_chunks_init()
    assert m.mtmd_tokenize(projector._pointer, chunks, text, (ctypes.c_void_p * 1)(bitmap), 1) == 0
    assert m.mtmd_encode_chunk(projector._pointer, m.mtmd_input_chunks_get(chunks, 0)) == 0
    theirs = np.ctypeslib.as_array(m.mtmd_get_output_embd(projector._pointer), rows.shape)
    np.testing.assert_array_equal(rows, theirs)
    m.mtmd_bitmap_free(bitmap)
    m.mtmd_input_chunks_free(chunks)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no image at all", "image_corrupt"),
        (b"", "image_corrupt"),
        ("damaged", "image_corrupt"),
        ("strip", "image_too_large"),
    ],
)
def test_what_cannot_be_read_is_refused(
    open_projector: Open, minicpmv: Path, vision: Any, data: Any, code: str
) -> None:
    if data == "damaged":
        data = vision.png_file(56, 56, b"not zlib")
    if data == "strip":
        data = vision.picture(1, 1, 201)
    with pytest.raises(EngineError) as caught:
        open_projector(minicpmv).open(data)
    assert caught.value.code == code


def refused(text_model: Path, projector: Path) -> EngineError:
    log = Log(verbose=False)
    settings = EngineModel("other", str(text_model))
    model = Model(settings, use_extra_bufts=False, log=log)
    try:
        with pytest.raises(EngineError) as caught:
            Projector(model, str(projector), settings, 1, log, on_gpu=False)
    finally:
        model.close()
    assert (caught.value.code, caught.value.field) == ("model_file_invalid", "mmproj_path")
    return caught.value


def test_a_projector_that_does_not_fit_the_text_model_is_refused(
    vision: Any, tiny: Any, llava: Path, minicpmv: Path, f32_model: Path, tmp_path: Path
) -> None:
    wide = vision.write_llava(tmp_path / "wide.gguf", width=512)
    assert "mismatch between text model" in refused(f32_model, wide).message
    assert "tokens around images" in refused(f32_model, minicpmv).message
    turning = tiny.write_tiny_model(tmp_path / "mrope.gguf", mrope=True)
    assert "M-RoPE" in refused(turning, llava).message
