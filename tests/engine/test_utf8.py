"""What the first bytes of a character can become."""

from __future__ import annotations

import pytest

from workers.engine.utf8 import completions, split_text

CHARACTER = "缺".encode()


def test_a_part_of_a_character_is_split_off() -> None:
    assert split_text(b"abc") == ("abc", b"")
    assert split_text(b"a" + CHARACTER[:2]) == ("a", CHARACTER[:2])
    assert split_text(b"\xf4\x8f\xbf") == ("", b"\xf4\x8f\xbf")


@pytest.mark.parametrize("data", [CHARACTER[1:], b"\xc0\x80", b"a\xff", b"\xed\xa0", b"\xf4\x90", b"\xc3a"])
def test_what_no_text_can_hold_is_none(data: bytes) -> None:
    assert split_text(data) is None


def test_completions_are_exactly_the_characters_that_begin_so() -> None:
    beginning: dict[bytes, list[int]] = {}
    for code in [*range(0x80, 0xD800), *range(0xE000, 0x30000, 7), *range(0x100000, 0x110000)]:
        data = chr(code).encode()
        for size in range(1, len(data)):
            beginning.setdefault(data[:size], []).append(code)
    for part, codes in beginning.items():
        ranges = completions(part)
        assert all(any(low <= code <= high for low, high in ranges) for code in codes), part
        for end in (end for one in ranges for end in one):
            assert chr(end).encode().startswith(part), part
        assert list(ranges) == sorted(ranges)
