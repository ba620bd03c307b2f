"""A GGUF file's header, read and checked before llama.cpp sees the file.

A truncated or corrupt file gets an error that says what is wrong instead of a null pointer or a bus error
from a memory map that ends too early. It reads no tensor data and knows no engine.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, EngineError

_MAGIC: Final = b"GGUF"
_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
# tensor type → (elements per block, bytes per block)
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header says. `metadata` holds the scalar and string values; arrays are skipped."""

    version: int
    n_tensors: int
    metadata: dict[str, Any]

    @property
    def architecture(self) -> str:
        """For example `llama`."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def quantisation(self) -> str:
        """The file type's name, for example `Q4_K_M`."""
        number = self.metadata.get("general.file_type")
        return _FILE_TYPES.get(number, f"type {number}") if isinstance(number, int) else "unknown"


def read_header(path: Path) -> GgufHeader:
    """Read and check a file. Raises EngineError (model_file_invalid) when it is missing, cut or no GGUF."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 24:
                raise _invalid(path, f"it has only {size} bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data, size).read()
    except OSError as error:
        raise _invalid(path, error.strerror or str(error)) from error


class _Reader:
    """Walks over the mapped header; every read is checked against the file's size."""

    def __init__(self, path: Path, data: mmap.mmap, size: int) -> None:
        self._path, self._data, self._size, self._at = path, data, size, 0

    def read(self) -> GgufHeader:
        if self._data[:4] != _MAGIC:
            raise _invalid(self._path, f"it starts with {self._data[:4]!r}, not with {_MAGIC!r}")
        self._at = 4
        version = self._number("<I")
        if version not in (2, 3):
            raise _invalid(self._path, f"GGUF version {version} is not supported")
        n_tensors, n_values = self._number("<Q"), self._number("<Q")
        if (n_tensors + n_values) * 12 > self._size:
            raise _invalid(
                self._path, f"it announces {n_tensors} tensors and {n_values} values, more than it can hold"
            )
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            name = self._string()
            value = self._value(self._number("<I"))
            if value is not None:
                metadata[name] = value
        self._check_tensors(n_tensors, metadata)
        return GgufHeader(version, n_tensors, metadata)

    def _number(self, form: str) -> Any:
        width = struct.calcsize(form)
        self._need(width)
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += width
        return value

    def _string(self) -> str:
        length = self._number("<Q")
        self._need(length)
        text = self._data[self._at : self._at + length].decode("utf-8", "replace")
        self._at += length
        return text

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        if kind not in _SCALARS:
            raise _invalid(self._path, f"a metadata value has the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _skip_array(self) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        if kind in _SCALARS:
            width = count * struct.calcsize(_SCALARS[kind])
            self._need(width)
            self._at += width
        elif kind == _STRING:
            self._skip_strings(count)
        else:
            raise _invalid(self._path, f"a metadata array has the unsupported type {kind}")

    def _skip_strings(self, count: int) -> None:
        # a vocabulary has 150,000 entries: keep this loop lean
        unpack, data, at, size = struct.Struct("<Q").unpack_from, self._data, self._at, self._size
        for _ in range(count):
            if at + 8 > size:
                raise self._cut()
            at += 8 + unpack(data, at)[0]
        self._at = at
        self._need(0)

    def _check_tensors(self, n_tensors: int, metadata: dict[str, Any]) -> None:
        ends = [self._tensor_end() for _ in range(n_tensors)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise _invalid(self._path, f"its alignment is {alignment!r}")
        start = -(-self._at // alignment) * alignment
        end = start + max((end for _, end in ends), default=0)
        if end > self._size:
            name = max(ends, key=lambda item: item[1])[0]
            raise _invalid(
                self._path,
                f"it is truncated: the tensor {name!r} ends at byte {end}, the file at byte {self._size}",
            )

    def _tensor_end(self) -> tuple[str, int]:
        name = self._string()
        n_dimensions = self._number("<I")
        if n_dimensions > 8:
            raise _invalid(self._path, f"the tensor {name!r} has {n_dimensions} dimensions")
        count = 1
        for _ in range(n_dimensions):
            count *= self._number("<Q")
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in _BLOCKS:
            return name, offset
        elements, width = _BLOCKS[kind]
        return name, offset + -(-count // elements) * width

    def _need(self, width: int) -> None:
        if self._at + width > self._size:
            raise self._cut()

    def _cut(self) -> EngineError:
        return _invalid(self._path, f"it is truncated: the header does not end within its {self._size} bytes")


def _invalid(path: Path, why: str) -> EngineError:
    return EngineError(
        MODEL_FILE_INVALID,
        f"{path} is no usable GGUF model: {why}",
        field="model",
        remedy="check the path in the model catalogue, and copy or download the file again",
    )
