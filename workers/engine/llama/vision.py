"""An image encoder with its projector (an mmproj GGUF): image files to rows of embeddings, through `mtmd`.

It knows bytes, tokens and rows, not requests, caches or where in a prompt an image stands. An image becomes
pieces in the order in which the text model must see them: runs of tokens that the model puts around slices
(`<image>`, `<slice>`, …) and slots, each filled by one pass of the encoder.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
from llama_cpp import llama_cpp as c
from llama_cpp import mtmd_cpp as m

from workers.engine.errors import (
    DECODE_FAILED,
    IMAGE_CORRUPT,
    IMAGE_TOO_LARGE,
    MODEL_FILE_INVALID,
    EngineError,
)
from workers.engine.images import Embeddings, Slot, Tokens
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.model import EngineModel

MAX_ASPECT_RATIO: Final = 200
"""A longer strip would be cut into so many patches that attention over them exhausts the memory."""
_PROBE_SIDES: Final = (2048, 1024)
"""Pixels of an image large enough to be cut into slices by every preprocessor that cuts."""


class Picture:
    """One decoded image, cut up as its encoder wants it. Holds C memory until `close`."""

    def __init__(self, projector: Projector, chunks: Any) -> None:
        self._projector = projector
        self._chunks = chunks
        self.pieces: tuple[Tokens | Slot, ...] = tuple(
            self._piece(index) for index in range(int(m.mtmd_input_chunks_size(chunks)))
        )

    def _piece(self, index: int) -> Tokens | Slot:
        chunk = m.mtmd_input_chunks_get(self._chunks, index)
        if m.mtmd_input_chunk_get_type(chunk) != m.MTMD_INPUT_CHUNK_TYPE_TEXT:
            return Slot(index, int(m.mtmd_input_chunk_get_n_tokens(chunk)))
        size = ctypes.c_size_t()
        tokens = m.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
        return np.array([tokens[at] for at in range(size.value)], np.int32)

    def encode(self, slot: Slot) -> Embeddings:
        """The slot's rows [rows, width]: the longest call of all, often hundreds of milliseconds.

        Raises EngineError where the encoder fails.
        """
        return self._projector.encode(m.mtmd_input_chunks_get(self._chunks, slot.index), slot.rows)

    def close(self) -> None:
        """Free the C memory."""
        if self._chunks:
            m.mtmd_input_chunks_free(self._chunks)
            self._chunks = None

    def __del__(self) -> None:
        self.close()


class Projector:
    """A loaded mmproj. Raises EngineError where it does not fit the text model. One thread owns it."""

    # the library holds one callback for the whole process and calls it even after a projector is gone
    _installed: Log | None = None

    def __init__(
        self, model: Model, path: str, settings: EngineModel, n_threads: int, log: Log, *, on_gpu: bool
    ) -> None:
        m.mtmd_helper_log_set(log.callback, ctypes.c_void_p(0))
        Projector._installed = log
        params = m.mtmd_context_params_default()
        params.use_gpu = on_gpu
        params.n_threads = n_threads
        params.print_timings = False
        params.flash_attn_type = -1 if settings.flash_attn == "auto" else int(settings.flash_attn)
        params.image_min_tokens = settings.image_min_tokens or -1
        params.image_max_tokens = settings.image_max_tokens or -1
        self._log = log
        self._path = path
        self._pointer = m.mtmd_init_from_file(path.encode(), model.pointer, params)
        if not self._pointer:
            raise self._unfit(f"llama.cpp could not load {path}: {log.last_errors() or 'no reason given'}")
        self.width = int(c.llama_model_n_embd_inp(model.pointer))
        self._n_vocab = model.vocabulary.size
        try:
            self._check()
        except EngineError:
            self.close()
            raise
        self.non_causal = bool(m.mtmd_decode_use_non_causal(self._pointer, None))
        """Whether the rows of a slot see each other both ways, and so must be decoded in one pass."""

    def _check(self) -> None:
        if not m.mtmd_support_vision(self._pointer):
            raise self._unfit(f"{self._path} has no image encoder")
        if m.mtmd_decode_use_mrope(self._pointer):
            raise self._unfit(f"{self._path} needs the positions of M-RoPE, which the engine does not give")
        width, height = _PROBE_SIDES
        blank = m.mtmd_bitmap_init(width, height, (ctypes.c_uint8 * (width * height * 3))())
        probe = self._cut(blank)
        try:
            lacking = any(
                not isinstance(piece, Slot) and bool(((piece < 0) | (piece >= self._n_vocab)).any())
                for piece in probe.pieces
            )
        finally:
            probe.close()
        if lacking:
            raise self._unfit(f"{self._path} puts tokens around images that the text model does not have")

    @staticmethod
    def _unfit(why: str) -> EngineError:
        return EngineError(
            MODEL_FILE_INVALID,
            why,
            field="mmproj_path",
            remedy="name the mmproj file that was made for this text model",
        )

    def open(self, data: bytes) -> Picture:
        """Decode an image file and cut it up. Raises EngineError (image_corrupt, image_too_large)."""
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = m.mtmd_helper_bitmap_init_from_buf(self._pointer, buffer, len(data), False)
        if not bitmap:
            raise EngineError(
                IMAGE_CORRUPT,
                "the image cannot be decoded: its pixel data is damaged or of a kind that is not read",
                remedy="save it again as an ordinary PNG or JPEG",
            )
        return self._cut(bitmap)

    def _cut(self, bitmap: Any) -> Picture:
        """Takes the bitmap over."""
        try:
            width, height = int(m.mtmd_bitmap_get_nx(bitmap)), int(m.mtmd_bitmap_get_ny(bitmap))
            if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
                raise EngineError(
                    IMAGE_TOO_LARGE,
                    f"the image has {width} × {height} pixels; a side may be {MAX_ASPECT_RATIO} × the other",
                    remedy="crop it, or cut it into several images",
                )
            part = m.mtmd_input_part()
            part.bitmap = bitmap
            parts = (ctypes.POINTER(m.mtmd_input_part) * 1)(ctypes.pointer(part))
            chunks = m.mtmd_input_chunks_init()
            code = int(m.mtmd_tokenize_from_parts(self._pointer, chunks, parts, 1, False))
        finally:
            m.mtmd_bitmap_free(bitmap)
        if code != 0:
            m.mtmd_input_chunks_free(chunks)
            raise EngineError(
                IMAGE_CORRUPT,
                f"the image cannot be prepared for its encoder: {self._log.last_errors() or f'code {code}'}",
                remedy="scale it to an ordinary size",
            )
        return Picture(self, chunks)

    def encode(self, chunk: Any, rows: int) -> Embeddings:
        """The embeddings [rows, width] of one image chunk, as a copy."""
        if m.mtmd_encode_chunk(self._pointer, chunk) != 0:
            raise EngineError(
                DECODE_FAILED,
                f"llama.cpp failed to encode the image: {self._log.last_errors() or 'no reason given'}",
                remedy="try the job again",
            )
        output = m.mtmd_get_output_embd(self._pointer)
        return np.ctypeslib.as_array(output, (rows, self.width)).copy()

    def close(self) -> None:
        """Free the C memory."""
        if self._pointer:
            m.mtmd_free(self._pointer)
            self._pointer = None
