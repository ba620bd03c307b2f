"""An ambiguous grammar fails its own job, and a stuck engine goes with its parent."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
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


@pytest.mark.parametrize(
    ("grammar", "unit"),
    [
        ('root ::= "a" root "b" | "a" root "c"', b"a"),
        (compile_schema(NODE).grammar, b'{"left":'),
    ],
)
def test_a_text_of_too_many_readings_is_given_up(load_tiny: Any, grammar: str, unit: bytes) -> None:
    runtime = load_tiny()
    state = runtime.make_grammar(grammar)
    pieces = runtime.vocabulary.pieces
    with pytest.raises(EngineError, match="ambiguous") as caught:
        for byte in unit * 40:
            token = pieces.index(bytes([byte]))
            assert state.allows(token)
            state.accept(token)
    assert caught.value.code == "grammar_invalid"
    state.close()


def test_a_long_list_of_alternatives_is_not_ambiguous(load_tiny: Any) -> None:
    runtime = load_tiny()
    state = runtime.make_grammar(compile_schema({"enum": [f"value {at}" for at in range(2000)]}).grammar)
    every = np.arange(len(runtime.vocabulary.pieces), dtype=np.int32)
    for byte in b'"value 7"':
        token = runtime.vocabulary.pieces.index(bytes([byte]))
        assert state.allowed(every)[token]
        state.accept(token)
    state.close()


def test_the_neighbour_of_an_ambiguous_grammar_is_answered(yard: Any) -> None:
    output = {"type": "grammar", "grammar": 'root ::= "a" root "b" | "a" root "c"'}
    yard.submit(
        "bad", messages=[{"role": "user", "content": "x"}], output=output, sampling={"max_tokens": 99}
    )
    yard.submit("good", messages=[{"role": "user", "content": "x"}])
    assert set(yard.run()) == {"good"}
    assert yard.failed["bad"]["code"] == "grammar_invalid"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_child_that_reads_nothing_dies_with_its_parent() -> None:
    stuck = (
        "import os, threading; from workers.engine.__main__ import die_with_parent; die_with_parent(); "
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
