"""Whether bytes are a whole image that llama.cpp's decoder can read, and no more work than its size says.

Checked at submit, where the caller can still mend it, and again by the worker. PNG or JPEG, by structure:
headers and checksums are read and packed pixels unpacked to see how many there are, but no picture is made of
them. The decoder itself unpacks a PNG to its end, whatever its header says, and passes over all of a JPEG for
each scan.
"""

import re
import struct
import zlib
from collections.abc import Iterable

from batchyard.errors import InvalidJob

MAX_SCANS = 100
"""Of a JPEG. A progressive one has about ten; the decoder took 5 ms for each of 50 million pixels."""

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Numbers a pixel by a PNG's colour type."""
_UNPACK_AT_ONCE = 1 << 20
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends the packed data of a scan."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
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
        width, height, packed, unpacked = _png_layout(data)
    elif data.startswith(b"\xff\xd8"):
        width, height = _jpeg_size(data)
        packed, unpacked = [], 0
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
    if packed and _unpacks_to_more(packed, unpacked):
        raise _corrupt(f"more pixel data than {width} × {height} pixels have")
    return width, height


def _unpacks_to_more(packed: Iterable[memoryview], limit: int) -> bool:
    """Whether zlib data, in pieces, comes to more than `limit` bytes; what is damaged counts up to there."""
    unpacker, size = zlib.decompressobj(), 0
    try:
        for piece in packed:
            left: bytes | memoryview = piece
            while left and not unpacker.eof:
                size += len(unpacker.decompress(left, _UNPACK_AT_ONCE))
                if size > limit:
                    return True
                left = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return False


def _png_layout(data: bytes) -> tuple[int, int, list[memoryview], int]:
    """Width, height, the pieces of packed pixel data, and the most bytes that they may unpack to."""
    at, header, packed = len(_PNG), None, list[memoryview]()
    whole = memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        body_end = at + 8 + length
        if body_end + 4 > len(data):
            raise _corrupt(f"cut off within its {kind!r} chunk at byte {len(data):,}")
        if zlib.crc32(data[at + 4 : body_end]) != struct.unpack_from(">I", data, body_end)[0]:
            raise _corrupt(f"checksum of its {kind!r} chunk does not match")
        if kind == b"IHDR" and length == 13:
            header = struct.unpack_from(">IIBB", data, at + 8)
        if kind == b"IDAT":
            packed.append(whole[at + 8 : body_end])
        if kind == b"IEND" and header is not None:
            width, height, depth, colours = header
            row = 1 + width * depth * _CHANNELS.get(colours, 4) // 8
            return width, height, packed, 2 * row * height + 1024  # interlaced ones have a little more
        at = body_end + 4
    raise _corrupt("cut off before its IEND chunk")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    if not data.rstrip(b"\x00").endswith(b"\xff\xd9"):
        raise _corrupt("cut off before its end marker")
    at, size, scans = 2, None, 0
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise _corrupt(f"no marker where one is due, at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _END:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAMES and size is None and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = width, height
        at += 2 + length
        if marker == _SCAN:
            scans += 1
            found = _NEXT_MARKER.search(data, at)
            at = len(data) if found is None else found.start()
    if size is None:
        raise _corrupt("has no frame header")
    if scans > MAX_SCANS:
        raise _corrupt(f"{scans:,} scans, the limit is {MAX_SCANS}", "image_too_large", _REMEDY)
    return size
