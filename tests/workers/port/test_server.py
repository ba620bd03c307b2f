"""The asyncio child's life over a real socket, with the classifier's loader behind it."""

import asyncio
import json
import socket

import pytest

from workers.engine.frames import FrameReader, encode_frame
from workers.engine.lifeline import EXIT_LOAD_FAILED, EXIT_OK, EXIT_PROTOCOL
from workers.onnx.loader import load
from workers.port.server import serve


def life(said: bytes) -> tuple[int, list[dict[str, object]]]:
    """The exit status, and the frames that came back, of a child that is told `said` and then left alone."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
        theirs.setblocking(False)
        code = asyncio.run(serve(theirs, load))
        ours.settimeout(30)
        data = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    return code, FrameReader().feed(data)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (encode_frame({"op": "shutdown"}), EXIT_OK),
        (b"", EXIT_OK),
        (encode_frame({"op": "load"})[:7], EXIT_OK),
        (b"\xff\xff\xff\xff", EXIT_PROTOCOL),
        (b"\x00\x00\x00\x02[]", EXIT_PROTOCOL),
    ],
)
def test_it_ends_when_it_is_told_left_or_told_nonsense(said: bytes, code: int) -> None:
    assert life(said) == (code, [])


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"op": "submit"}, None),
        ({"op": "load"}, "model"),
        ({"op": "load", "model": {"engine": "onnx", "model_name": "m"}}, "model_path"),
        (
            {"op": "load", "model": {"engine": "onnx", "model_name": "m", "model_path": "x", "modle": 1}},
            "modle",
        ),
    ],
)
def test_what_cannot_be_loaded_is_said(frame: dict[str, object], field: str | None) -> None:
    code, [answer] = life(encode_frame(frame))
    error = json.loads(json.dumps(answer["error"]))
    assert (code, answer["op"], error["field"]) == (EXIT_LOAD_FAILED, "load_failed", field)
