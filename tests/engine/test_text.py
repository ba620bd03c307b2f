"""Text from bytes in pieces: whole characters, and nothing after a stop string."""

from __future__ import annotations

import pytest

from workers.engine.text import TextStream


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_characters_split_over_tokens_come_out_whole(size: int) -> None:
    data = "电容 C12 虚焊 🙂".encode()
    stream = TextStream()
    shown = "".join(stream.push(data[at : at + size]) for at in range(0, len(data), size))
    assert shown + stream.finish() == "电容 C12 虚焊 🙂"
    assert "\ufffd" not in stream.text


def test_a_character_that_never_ends_is_replaced() -> None:
    stream = TextStream()
    stream.push("好".encode()[:2])
    assert stream.finish() == "\ufffd"


def test_a_stop_string_over_three_tokens_is_cut_and_held_back() -> None:
    stream = TextStream(("\n\nEND", "STOP"))
    shown = [stream.push(piece) for piece in (b"ok S", b"TO", b"P more")]
    assert shown == ["ok ", "", ""]
    assert stream.stopped
    assert stream.text == "ok "
    assert stream.push(b"later") == ""


def test_a_beginning_that_was_no_stop_string_is_given_back() -> None:
    stream = TextStream(("STOP",))
    assert stream.push(b"ST") == ""
    assert stream.push(b"ART") == "START"
    assert stream.push(b" S") == " "
    assert stream.finish() == "S"
    assert stream.text == "START S"


def test_the_first_of_two_stop_strings_wins() -> None:
    stream = TextStream(("bb", "a"))
    stream.push(b"xxabb")
    assert stream.text == "xx"


def test_a_stop_string_inside_a_split_character() -> None:
    stream = TextStream(("。",))
    data = "合格。不合格".encode()
    for at in range(len(data)):
        stream.push(data[at : at + 1])
    assert stream.text == "合格"
