"""Whether bytes are a whole image that llama.cpp's decoder can read: PNG or JPEG, by structure.

Checked at submit, where the caller can still mend it. Knows nothing of pixels: the headers and the
checksums are read, the picture is not decoded.
"""

import struct
import zlib

from batchyard.errors import InvalidJob

_PNG = b"\x89PNG\r\n\x1a\n"
_REMEDY = "send a whole PNG or JPEG file"


def _corrupt(why: str, code: str = "image_corrupt", remedy: str = _REMEDY) -> InvalidJob:
    return InvalidJob(why, code=code, field="image", remedy=remedy)


def check_image(data: bytes, max_bytes: int, max_pixels: int) -> tuple[int, int]:
    """The width and height, in pixels, of a whole PNG or JPEG.

    Raises:
        InvalidJob: code `image_too_large` or `image_corrupt`.
    """
    if len(data) > max_bytes:
        raise _corrupt(
            f"{len(data):,} bytes, the limit is {max_bytes:,}",
            "image_too_large",
            "scale it down, or raise BATCHYARD_MAX_IMAGE_BYTES",
        )
    if data.startswith(_PNG):
        width, height = _png_size(data)
    elif data.startswith(b"\xff\xd8"):
        width, height = _jpeg_size(data)
    else:
        raise _corrupt(f"neither PNG nor JPEG (starts with {data[:8].hex(' ') or 'nothing'})")
    if width == 0 or height == 0:
        raise _corrupt(f"a size of {width} × {height} pixels")
    if width * height > max_pixels:
        raise _corrupt(
            f"{width} × {height} pixels, the limit is {max_pixels:,}",
            "image_too_large",
            "scale it down, or raise BATCHYARD_MAX_IMAGE_PIXELS",
        )
    return width, height


def _png_size(data: bytes) -> tuple[int, int]:
    at, size = len(_PNG), None
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        body_end = at + 8 + length
        if body_end + 4 > len(data):
            raise _corrupt(f"cut off within its {kind!r} chunk at byte {len(data):,}")
        if zlib.crc32(data[at + 4 : body_end]) != struct.unpack_from(">I", data, body_end)[0]:
            raise _corrupt(f"checksum of its {kind!r} chunk does not match")
        if kind == b"IHDR" and length == 13:
            size = struct.unpack_from(">II", data, at + 8)
        if kind == b"IEND" and size is not None:
            return size
        at = body_end + 4
    raise _corrupt("cut off before its IEND chunk")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    if not data.rstrip(b"\x00").endswith(b"\xff\xd9"):
        raise _corrupt("cut off before its end marker")
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise _corrupt(f"no marker where one is due, at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if at + 9 > len(data):
                break
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    raise _corrupt("has no frame header")
