"""Constrained text stays valid UTF-8, token by token."""

from __future__ import annotations

import numpy as np

from workers.engine.utf8 import Utf8Gate, Utf8Table, unfinished

CHARACTER = "缺".encode()
PIECES = [
    b"",
    b"a",
    CHARACTER[:1],
    CHARACTER[1:2],
    CHARACTER[2:],
    CHARACTER,
    b"\xff",
    CHARACTER[1:] + b"x",
    b"b" + CHARACTER[:2],
]


def test_unfinished() -> None:
    assert unfinished(b"abc") == b""
    assert unfinished(b"a" + CHARACTER[:2]) == CHARACTER[:2]
    assert unfinished(CHARACTER[1:]) is None
    assert unfinished(b"\xc0\x80") is None


def test_only_what_finishes_the_character_may_follow() -> None:
    gate = Utf8Gate(Utf8Table(PIECES, frozenset({0})))
    every = np.arange(len(PIECES), dtype=np.int32)
    assert gate.allowed(every).tolist() == [True, True, True, False, False, True, False, False, True]
    gate.accept(2)
    assert gate.allowed(every).nonzero()[0].tolist() == [3, 4, 7]
    assert [gate.allows(token) for token in range(len(PIECES))] == gate.allowed(every).tolist()
    gate.accept(3)
    assert gate.allowed(every).nonzero()[0].tolist() == [3, 4]
    gate.accept(4)
    assert gate.allows(1)


def test_a_token_that_writes_nothing_may_only_end_the_text() -> None:
    pieces = [b"", b"a", b"", CHARACTER[:1]]
    gate = Utf8Gate(Utf8Table(pieces, frozenset({2})))
    every = np.arange(len(pieces), dtype=np.int32)
    assert gate.allowed(every).tolist() == [False, True, True, True]
    assert not gate.allows(0)
    assert gate.allows(2)
    gate.accept(3)
    assert not gate.allowed(every).any()
