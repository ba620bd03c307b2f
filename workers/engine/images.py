"""Encoded images: what stands in a prompt in an image's place, and a bounded store of them by content hash.

It knows arrays and hashes, not files, encoders or requests.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Slot:
    """`rows` positions that one pass of the encoder fills, computed from piece `index` of a picture."""

    index: int
    rows: int


@dataclass(frozen=True, slots=True)
class Span:
    """Rows [rows, width] of embeddings that stand at index `start` of some tokens, over placeholders."""

    start: int
    rows: Embeddings

    @property
    def end(self) -> int:
        """The index behind the last row."""
        return self.start + len(self.rows)

    def shifted(self, by: int) -> Span:
        """The same rows, `by` places later."""
        return Span(self.start + by, self.rows)


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image: the model's own tokens around its slices, placeholders in their place, their rows."""

    tokens: Tokens
    spans: tuple[Span, ...]

    @property
    def n_bytes(self) -> int:
        """What it occupies."""
        return int(self.tokens.nbytes + sum(span.rows.nbytes for span in self.spans))


NO_ROWS: Final = Image(np.empty(0, np.int32), ())


def placeholders(sha256: str, count: int) -> Tokens:
    """`count` negative numbers that stand for an image's rows: equal for equal content, whoever asks.

    31 bits each of SHAKE-256 over the hash; two images agree in all of them as good as never.
    """
    drawn = np.frombuffer(hashlib.shake_256(sha256.encode("ascii")).digest(4 * count), np.int32)
    return drawn | np.int32(-(2**31))


def assemble(sha256: str, pieces: Iterable[Tokens | Embeddings]) -> Image:
    """An image from its pieces in order: tokens [n] as they are, embeddings [rows, width] as spans."""
    parts = list(pieces)
    left = placeholders(sha256, sum(len(part) for part in parts if part.ndim == 2))
    tokens: list[Tokens] = []
    spans: list[Span] = []
    at = 0
    for part in parts:
        if part.ndim == 2:
            spans.append(Span(at, part.astype(np.float32, copy=False)))
            tokens.append(left[: len(part)])
            left = left[len(part) :]
        else:
            tokens.append(part.astype(np.int32, copy=False))
        at += len(part)
    return Image(np.concatenate(tokens), tuple(spans))


def whole_length(tokens: Tokens, length: int) -> int:
    """The longest beginning of at most `length` tokens that does not end between two placeholders.

    So a beginning is shared with a whole image or without it. Images that follow each other directly count as
    one.
    """
    if not 0 < length < len(tokens) or tokens[length - 1] >= 0 or tokens[length] >= 0:
        return length
    before = np.flatnonzero(tokens[:length] >= 0)
    return int(before[-1]) + 1 if len(before) else 0


class ImageCache:
    """Encoded images by the SHA-256 of their files; the least recently used leave beyond `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: OrderedDict[str, Image] = OrderedDict()
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._images

    def get(self, sha256: str) -> Image | None:
        """The image, from now on the most recently used one; None where there is none."""
        image = self._images.get(sha256)
        if image is not None:
            self._images.move_to_end(sha256)
        return image

    def put(self, sha256: str, image: Image) -> None:
        """Keep an image. One that is larger than the whole cache is not kept."""
        if sha256 in self._images or image.n_bytes > self._limit:
            return
        self._images[sha256] = image
        self.n_bytes += image.n_bytes
        while self.n_bytes > self._limit:
            _, oldest = self._images.popitem(last=False)
            self.n_bytes -= oldest.n_bytes
