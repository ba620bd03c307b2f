"""An ambiguous grammar fails its own job, and a stuck engine goes with its parent."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.engine.errors import EngineError
from workers.engine.schema import compile_schema

ROOT = Path(__file__).resolve().parents[2]
NODE = {
    "$defs": {
        "node": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"left": {"$ref": "#/$defs/node"}, "op": {"const": sign}},
                    "required": ["left", "op"],
                    "additionalProperties": False,
                }
                for sign in "+-"
            ]
        }
    },
    "$ref": "#/$defs/node",
}

COUNTS_IN_COUNTS = "root ::= x{1500,2000}\nx ::= y{1,2000}\ny ::= z{1,2000}\nz ::= [ab]{1,2000}"


def read(runtime: Any, grammar: str, text: bytes) -> Any:
    state = runtime.grammars.begin(grammar)
    pieces = runtime.vocabulary.pieces
    for byte in text:
        token = pieces.index(bytes([byte]))
        assert state.allows(token)
        state.accept(token)
    return state


@pytest.mark.parametrize(
    ("grammar", "opening", "closing"),
    [
        ('root ::= "a" root "b" | "a" root "c" | "x"', b"a", b"b"),
        (
            compile_schema(
                NODE | {"$defs": {"node": {"anyOf": [*NODE["$defs"]["node"]["anyOf"], {"type": "null"}]}}}
            ),
            b'{"left":',
            b',"op":"-"}',
        ),
    ],
)
def test_a_text_of_a_trillion_readings_costs_no_more_than_its_length(
    load_tiny: Any, grammar: str, opening: bytes, closing: bytes
) -> None:
    runtime = load_tiny()
    middle = b"x" if opening == b"a" else b"null"
    walk = runtime.grammars.compile(grammar)
    assert read(runtime, grammar, opening * 10 + middle + closing * 10).complete
    small = walk.automaton.weight
    assert read(runtime, grammar, opening * 40 + middle + closing * 40).complete
    assert walk.automaton.weight < 20 * small


def test_a_text_of_too_many_places_is_given_up(load_tiny: Any) -> None:
    with pytest.raises(EngineError, match="ambiguous") as caught:
        read(load_tiny(), COUNTS_IN_COUNTS, b"a" * 2000)
    assert (caught.value.code, caught.value.field) == ("grammar_invalid", "output")
    assert caught.value.remedy


def test_a_text_too_deep_in_rules_is_given_up(load_tiny: Any) -> None:
    grammar = 'root ::= "(" root ")" | "x"'
    assert read(load_tiny(), grammar, b"(" * 1000 + b"x" + b")" * 1000).complete
    with pytest.raises(EngineError, match="too deep"):
        read(load_tiny(), grammar, b"(" * 5000)


def test_the_same_text_fails_at_the_same_place_however_much_is_remembered(load_tiny: Any) -> None:
    runtime = load_tiny()
    lengths = set()
    for _ in range(2):
        state = runtime.grammars.begin(COUNTS_IN_COUNTS)
        token = runtime.vocabulary.pieces.index(b"a")
        taken = 0
        with pytest.raises(EngineError):
            while taken < 2000:
                state.accept(token)
                taken += 1
        lengths.add(taken)
    assert len(lengths) == 1


def test_a_long_list_of_alternatives_is_not_ambiguous(load_tiny: Any) -> None:
    runtime = load_tiny()
    grammar = compile_schema({"enum": [f"value {at}" for at in range(8_000)]})
    assert not read(runtime, grammar, b'"value 77').complete
    assert read(runtime, grammar, b'"value 777"').complete


def test_the_neighbour_of_an_ambiguous_grammar_is_answered(yard: Any) -> None:
    output = {"type": "grammar", "grammar": COUNTS_IN_COUNTS}
    yard.submit(
        "bad", messages=[{"role": "user", "content": "x"}], output=output, sampling={"max_tokens": 200}
    )
    yard.submit("good", messages=[{"role": "user", "content": "x"}])
    assert set(yard.run()) == {"good"}
    assert yard.failed["bad"]["code"] == "grammar_invalid"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_child_that_reads_nothing_dies_with_its_parent() -> None:
    stuck = (
        "import os, threading; from workers.engine.lifeline import die_with_parent; die_with_parent(); "
        "os.write(1, b'ready'); threading.Event().wait()"
    )
    parent = (
        "import subprocess, sys, threading; "
        f"subprocess.Popen([sys.executable, '-c', {stuck!r}]); threading.Event().wait()"
    )
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen([sys.executable, "-c", parent], stdout=theirs, cwd=ROOT) as process:
        theirs.close()
        assert select.select([ours], [], [], 60)[0]
        assert os.read(ours.fileno(), 5) == b"ready"
        process.kill()
        # the pipe closes only when the grandchild is gone too
        assert select.select([ours], [], [], 60)[0]
        assert os.read(ours.fileno(), 1) == b""
