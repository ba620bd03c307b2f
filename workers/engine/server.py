"""The child process: frames from the socket into the engine, its events back, one step in between.

One thread does everything: it reads what has arrived without waiting while there is work, and sleeps in
`select` while there is none. It knows the port's operations, not what a job means.
"""

from __future__ import annotations

import base64
import os
import select
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from workers.engine.abort_on import AbortOn
from workers.engine.embedder import Embedder
from workers.engine.embedding_loader import load_embedder
from workers.engine.engine import Engine
from workers.engine.errors import (
    IMAGE_CORRUPT,
    IMAGE_MISSING,
    MODEL_FILE_INVALID,
    REQUEST_INVALID,
    EngineError,
)
from workers.engine.frames import FrameError, FrameReader, encode_frame
from workers.engine.lifeline import EXIT_LOAD_FAILED, EXIT_OK, EXIT_PROTOCOL
from workers.engine.loader import load
from workers.engine.model import EngineModel

_CHUNK: Final = 1 << 20
_LONGEST_SLEEP_S: Final = 3600.0
"""`select` takes no deadline of the next century."""


class Loop(Protocol):
    """What serves requests in steps: the generating engine, or the embedder."""

    def rest(self) -> float | None:
        """Seconds until a step has something to do; None where only a message brings work."""

    def submit(self, frame: Any) -> None:
        """Take a request in."""

    def cancel(self, name: str) -> None:
        """Take a request out."""

    def step(self) -> None:
        """One forward pass."""

    def events(self) -> list[dict[str, Any]]:
        """Port frames since the last call."""

    def stats(self) -> dict[str, Any]:
        """Counters since the start."""


Opened = tuple[Loop, dict[str, Any], Callable[[], None]]
"""A loop, what it says of itself in the `ready` frame, and how it is closed."""


def open_loop(settings: EngineModel) -> Opened:
    """The loop that a model needs. Raises EngineError where it cannot be loaded."""
    if settings.embedding:
        embedding = load_embedder(settings)
        return Embedder(embedding), embedding.info, embedding.close
    runtime = load(settings)
    return Engine(runtime), runtime.info, runtime.close


class Connection:
    """The socket as messages in and out. Writing never waits: what does not fit is sent later."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._reader = FrameReader()
        self._unsent = bytearray()
        self.closed = False

    def receive(self, wait_s: float | None) -> list[dict[str, Any]]:
        """Messages that have arrived. Until there is one or the peer is gone, sleep for at most so many
        seconds, or fewer; None is without end.
        """
        while True:
            writing = [self._socket] if self._unsent else []
            wait = None if wait_s is None else min(wait_s, _LONGEST_SLEEP_S)
            readable, writable, _ = select.select([self._socket], writing, [], wait)
            if writable:
                self._flush()
            messages = self._read() if readable else []
            if messages or self.closed or wait is not None:
                return messages

    def _read(self) -> list[dict[str, Any]]:
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return []
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return []
        return self._reader.feed(data)

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message and send as much as the socket takes."""
        self._unsent += encode_frame(message)
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            self.closed = True
            return
        del self._unsent[:sent]

    def drain(self) -> None:
        """Wait until everything is sent or the peer is gone."""
        while self._unsent and not self.closed:
            select.select([], [self._socket], [])
            self._flush()


def serve(connection: socket.socket) -> int:
    """The child's whole life; returns the exit status. EOF and `shutdown` both mean: stop now."""
    peer = Connection(connection)
    try:
        arrived = peer.receive(None)
        if not arrived or arrived[0].get("op") == "shutdown":
            return EXIT_OK
        first = arrived[0]
        loop, info, close = open_loop(
            EngineModel.parse(first.get("model")) if first.get("op") == "load" else _no_load(first)
        )
    except FrameError:
        return EXIT_PROTOCOL
    except EngineError as error:
        peer.send({"op": "load_failed", "error": error.to_frame()})
        peer.drain()
        return EXIT_LOAD_FAILED
    peer.send({"op": "ready", "info": info})
    try:
        return _loop(peer, loop, arrived[1:])
    finally:
        close()


def _no_load(message: dict[str, Any]) -> EngineModel:
    raise EngineError(MODEL_FILE_INVALID, f"the first frame must be load, not {message.get('op')!r}")


def _loop(peer: Connection, engine: Loop, messages: list[dict[str, Any]]) -> int:
    """Serve until the peer is done; `messages` came together with the first frame."""
    hook = AbortOn.from_environment(os.environ)
    while not peer.closed:
        for message in messages:
            if message.get("op") == "shutdown":
                return EXIT_OK
            hook.see(message)
            _handle(peer, engine, message)
        if engine.rest() == 0.0:
            engine.step()
            hook.step_done()
        for event in engine.events():
            _send_event(peer, event)
        try:
            messages = peer.receive(engine.rest())
        except FrameError:
            return EXIT_PROTOCOL
    return EXIT_OK


def _send_event(peer: Connection, event: dict[str, Any]) -> None:
    """Send an event; an answer that is no frame (too long, or not a number in it) fails that job alone."""
    try:
        peer.send(event)
    except (FrameError, ValueError, RecursionError) as error:
        why = EngineError(
            REQUEST_INVALID,
            f"the answer cannot be sent: {error}",
            remedy="ask for fewer tokens or fewer logprobs",
        )
        peer.send({"op": "failed", "id": event["id"], "error": why.to_frame()})


def _handle(peer: Connection, engine: Loop, message: dict[str, Any]) -> None:
    operation = message.get("op")
    if operation == "submit":
        engine.submit(message.get("request"))
    elif operation == "image" and isinstance(engine, Engine):
        _take_image(engine, message)
    elif operation == "cancel":
        engine.cancel(str(message.get("id")))
    elif operation == "stats":
        peer.send({"op": "stats", "stats": engine.stats()})


def _take_image(engine: Engine, message: dict[str, Any]) -> None:
    """The answer to a `need_image`: `data` is the file in base64, `error` says why there is none."""
    sha256, error = str(message.get("sha256")), message.get("error")
    if isinstance(error, dict):
        why = str(error.get("message") or "there is no such image")
        code = str(error.get("code") or IMAGE_MISSING)
        engine.image(sha256, EngineError(code, why, remedy=error.get("remedy")))
        return
    try:
        engine.image(sha256, base64.b64decode(message.get("data") or "", validate=True))
    except (TypeError, ValueError) as fault:
        engine.image(sha256, EngineError(IMAGE_CORRUPT, f"the image's frame is no base64: {fault}"))
