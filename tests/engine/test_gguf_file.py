"""A model file's header: read when sound, refused by name when not."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from workers.engine.errors import EngineError
from workers.engine.gguf_file import read_header


def test_a_sound_file_tells_what_it_is(q4_model: Path, f16_model: Path) -> None:
    header = read_header(q4_model)
    assert (header.architecture, header.quantisation, header.n_tensors) == ("llama", "Q4_K_M", 21)
    assert header.metadata["llama.block_count"] == 2
    assert read_header(f16_model).quantisation == "F16"


def test_every_truncation_is_seen(q4_model: Path, tmp_path: Path) -> None:
    data = q4_model.read_bytes()
    path = tmp_path / "cut.gguf"
    sizes = [0, 3, 4, 23, 24, 100, 1000, 4000, 10_000, len(data) // 2, len(data) - 4096, len(data) - 1]
    for size in sizes:
        path.write_bytes(data[:size])
        with pytest.raises(EngineError) as caught:
            read_header(path)
        assert caught.value.code == "model_file_invalid"
        assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("no GGUF", b"PK\x03\x04" + bytes(100)),
        ("version", b"GGUF" + struct.pack("<IQQ", 99, 1, 1) + bytes(100)),
        ("announces", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1) + bytes(100)),
        ("truncated", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**50) + bytes(100)),
    ],
)
def test_what_is_no_model(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(EngineError):
        read_header(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(EngineError) as caught:
            read_header(path)
        assert caught.value.remedy


def test_random_damage_to_the_header_never_escapes_as_another_error(q4_model: Path, tmp_path: Path) -> None:
    data = q4_model.read_bytes()
    path = tmp_path / "damaged.gguf"
    dice = random.Random(4)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data[:20_000])
        for _ in range(4):
            damaged[dice.randrange(8, 9000)] = dice.randrange(256)
        path.write_bytes(bytes(damaged) + data[20_000:])
        try:
            read_header(path)
        except EngineError:
            refused += 1
    assert refused > 50
