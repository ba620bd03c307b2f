"""A vector of float32 numbers as text: base64 of little-endian bytes, OpenAI's `encoding_format: base64`.

In Python it is a list of floats. 768 numbers take 4 kB this way, against 16 kB as JSON numbers.
"""

import base64
import binascii
import struct
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer


def vector_text(vector: list[float]) -> str:
    """The vector as text. Numbers that no float32 holds are rounded."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def read_vector(value: object) -> object:
    """The vector in its text; anything else is left for pydantic to judge. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        data = base64.b64decode(value, validate=True)
    except binascii.Error as exc:
        raise ValueError(f"no base64: {exc}") from None
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no float32 numbers")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


Vector = Annotated[
    list[float],
    BeforeValidator(read_vector),
    PlainSerializer(vector_text, return_type=str, when_used="json"),
]
"""A list of floats, which JSON carries as text."""
