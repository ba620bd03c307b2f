"""The asyncio child's life over a real socket, with the classifier's loader behind it."""

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.workers.port.echo import Echo
from workers.engine.frames import FrameReader, encode_frame
from workers.engine.lifeline import EXIT_LOAD_FAILED, EXIT_OK, EXIT_PROTOCOL
from workers.onnx.loader import load
from workers.port.server import serve


def life(said: bytes) -> tuple[int, list[dict[str, Any]]]:
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
    assert (code, answer["op"], answer["error"]["field"]) == (EXIT_LOAD_FAILED, "load_failed", field)


def test_frames_that_come_with_load_are_served_and_what_cannot_be_sent_fails_alone() -> None:
    echo = Echo()

    async def load_echo(_frame: object) -> Echo:
        return echo

    ours, theirs = socket.socketpair()
    requests = [{"op": "submit", "request": {"id": text, "prompt": text}} for text in ("nan", "fine")]
    with ours, theirs:
        theirs.setblocking(False)
        ours.settimeout(30)
        ours.sendall(b"".join(map(encode_frame, [{"op": "load"}, {"op": "stats"}, *requests])))

        async def go() -> int:
            serving = asyncio.create_task(serve(theirs, load_echo))
            reader, ends = FrameReader(), dict[str, dict[str, object]]()
            while not {"nan", "fine"} <= ends.keys():
                for frame in reader.feed(await asyncio.to_thread(ours.recv, 1 << 16)):
                    ends[str(frame["id"] if frame["op"] in ("done", "failed") else frame["op"])] = frame
            assert (ends["fine"]["op"], ends["nan"]["op"]) == ("done", "failed")
            assert "cannot be sent" in json.dumps(ends["nan"])
            assert {"ready", "stats", "started"} <= ends.keys()
            ours.sendall(encode_frame({"op": "shutdown"}))
            return await serving

        assert asyncio.run(go()) == EXIT_OK
    assert echo.closed
