"""A pooled vector as its caller asked for it, and as the port writes it. Pure."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


def shaped(vector: Vector, *, normalize: bool, dimensions: int | None) -> Vector:
    """The first `dimensions` numbers of a vector (all for None), of length 1 with `normalize`.

    A vector of zeros has no direction and stays as it is. Raises ValueError for numbers that are not finite.
    """
    vector = vector[:dimensions]
    if not np.isfinite(vector).all():
        raise ValueError("the model's vector holds numbers that are not finite")
    if not normalize:
        return vector
    length = float(np.sqrt(np.square(vector, dtype=np.float64).sum()))
    return np.asarray(vector / length, np.float32) if length else vector


def to_base64(vector: Vector) -> str:
    """Base64 of the little-endian float32 numbers, as OpenAI's `encoding_format: base64` has it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
