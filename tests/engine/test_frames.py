"""Given bytes in any pieces, when they are fed, then whole messages come out."""

from __future__ import annotations

import struct

import pytest

from workers.engine.frames import MAX_FRAME_BYTES, FrameError, FrameReader, encode_frame


def test_messages_survive_any_fragmentation() -> None:
    messages = [{"op": "submit", "text": "缺陷 \ud800 \x00"}, {"op": "cancel", "id": "a"}, {}]
    data = b"".join(encode_frame(message) for message in messages)
    for size in (1, 3, 7, len(data)):
        reader = FrameReader()
        found = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
        assert found == messages
        assert reader.pending == 0


def test_an_unfinished_frame_is_pending() -> None:
    reader = FrameReader()
    assert reader.feed(encode_frame({"op": "stats"})[:-1]) == []
    assert reader.pending > 0


@pytest.mark.parametrize("body", [b"[1]", b"no json", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(struct.pack(">I", len(body)) + body)


def test_an_oversized_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="announces"):
        FrameReader().feed(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_numbers_that_are_no_json_are_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_frame({"value": float("nan")})
