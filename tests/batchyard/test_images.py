"""Whole images pass; cut or altered ones are named as such."""

import struct
import zlib

import pytest

from batchyard.errors import InvalidJob
from batchyard.images import check_image


def png(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\0" + b"\x80" * 3 * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_whole_png_passes_with_its_size() -> None:
    assert check_image(png(3, 2), 10_000, 100) == (3, 2)


def test_every_cut_of_a_png_is_found() -> None:
    whole = png()
    for length in range(len(whole)):
        with pytest.raises(InvalidJob) as caught:
            check_image(whole[:length], 10_000, 100)
        assert caught.value.code == "image_corrupt"


def test_a_flipped_bit_is_found() -> None:
    broken = bytearray(png())
    broken[45] ^= 1
    with pytest.raises(InvalidJob, match="checksum"):
        check_image(bytes(broken), 10_000, 100)


def test_limits_name_both_numbers() -> None:
    with pytest.raises(InvalidJob, match=r"3 × 2 pixels, the limit is 5"):
        check_image(png(3, 2), 10_000, 5)
    with pytest.raises(InvalidJob, match="the limit is 10"):
        check_image(png(), 10, 100)


def test_jpeg_size_is_read_and_a_cut_one_refused() -> None:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 20, 30, 1) + b"\x01\x11\x00"
    whole = b"\xff\xd8" + b"\xff\xe0\x00\x04ab" + frame + b"\xff\xda\x00\x02data\xff\xd9"
    assert check_image(whole, 10_000, 1000) == (30, 20)
    with pytest.raises(InvalidJob, match="end marker"):
        check_image(whole[:-2], 10_000, 1000)


def packed_png(width: int, height: int, packed: bytes, depth: int = 8, colours: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    half = len(packed) // 2
    pixels = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_a_png_that_unpacks_to_more_than_its_size_is_found_without_unpacking_it_all() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join([packer.compress(bytes(1 << 24)) for _ in range(4)] + [packer.flush()])
    assert len(bomb) < 100_000  # 64 MiB
    with pytest.raises(InvalidJob, match="more pixel data than 30 × 20 pixels"):
        check_image(packed_png(30, 20, bomb), 1 << 20, 10_000)


@pytest.mark.parametrize(
    "depth, colours, channels", [(8, 2, 3), (16, 6, 4), (8, 0, 1), (16, 4, 2), (1, 3, 1)]
)
def test_pixel_data_of_every_kind_fits_its_size(depth: int, colours: int, channels: int) -> None:
    row = 1 + 33 * depth * channels // 8
    whole = packed_png(33, 21, zlib.compress(b"\x01" * row * 21), depth, colours)
    assert check_image(whole, 1 << 20, 10_000) == (33, 21)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, 20, 30, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + b"ab\xff\x00c\xff\xd0d"
    thumbnail = b"\xff\xe1\x02\x02" + (b"\xff\xda" * 256)  # within a segment, no scan of this image
    for scans in (1, 100):
        whole = b"\xff\xd8" + thumbnail + frame + scan * scans + b"\xff\xd9"
        assert check_image(whole, 10_000, 1000) == (30, 20)
    with pytest.raises(InvalidJob, match="101 scans, the limit is 100") as caught:
        check_image(b"\xff\xd8" + frame + scan * 101 + b"\xff\xd9", 10_000, 1000)
    assert caught.value.code == "image_too_large"


def test_text_is_no_image() -> None:
    with pytest.raises(InvalidJob, match="neither PNG nor JPEG"):
        check_image(b"hello there", 10_000, 100)
