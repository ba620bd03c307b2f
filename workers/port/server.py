"""The asyncio child: frames from the socket to the desk, its events back.

It knows the port's operations, not what a request means.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, REQUEST_INVALID, EngineError
from workers.engine.frames import FrameError, FrameReader, encode_frame
from workers.engine.lifeline import EXIT_LOAD_FAILED, EXIT_OK, EXIT_PROTOCOL
from workers.port.backend import Backend, Load
from workers.port.desk import Desk

_CHUNK: Final = 1 << 20


class Peer:
    """The socket as messages in and out. Sending never waits: what does not fit is sent later."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()

    async def receive(self) -> list[dict[str, Any]] | None:
        """Messages that have arrived; None when the peer is gone. Raises FrameError."""
        while True:
            try:
                data = await self._reader.read(_CHUNK)
            except ConnectionError:
                return None
            if not data:
                return None
            messages = self._frames.feed(data)
            if messages:
                return messages

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one that is no frame (too long, or not a number in it) fails its job alone."""
        try:
            frame = encode_frame(message)
        except (FrameError, ValueError, RecursionError) as error:
            why = EngineError(REQUEST_INVALID, f"the answer cannot be sent: {error}", remedy="ask for less")
            frame = encode_frame({"op": "failed", "id": message["id"], "error": why.to_frame()})
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def drain(self) -> None:
        """Wait until everything is sent or the peer is gone."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


async def serve(connection: socket.socket, load: Load) -> int:
    """The child's whole life; returns the exit status. EOF and `shutdown` both mean: stop now."""
    peer = Peer(*await asyncio.open_connection(sock=connection, limit=_CHUNK))
    try:
        arrived = await peer.receive()
        if arrived is None or arrived[0].get("op") == "shutdown":
            return EXIT_OK
        first = arrived[0]
        if first.get("op") != "load":
            raise EngineError(MODEL_FILE_INVALID, f"the first frame must be load, not {first.get('op')!r}")
        backend = await load(first.get("model"))
    except FrameError:
        return EXIT_PROTOCOL
    except EngineError as error:
        peer.send({"op": "load_failed", "error": error.to_frame()})
        await peer.drain()
        return EXIT_LOAD_FAILED
    try:
        return await _loop(peer, backend, arrived[1:])
    finally:
        await backend.close()


async def _loop(peer: Peer, backend: Backend, messages: list[dict[str, Any]]) -> int:
    """Serve until the peer is done; `messages` came together with the first frame."""
    peer.send({"op": "ready", "info": backend.info})
    desk = Desk(backend, peer.send)
    arrived: list[dict[str, Any]] | None = messages
    try:
        while arrived is not None:
            for message in arrived:
                if message.get("op") == "shutdown":
                    return EXIT_OK
                _handle(peer, desk, message)
            arrived = await peer.receive()
    except FrameError:
        return EXIT_PROTOCOL
    finally:
        await desk.close()
    return EXIT_OK


def _handle(peer: Peer, desk: Desk, message: dict[str, Any]) -> None:
    operation = message.get("op")
    if operation == "submit":
        desk.submit(message.get("request"))
    elif operation == "image":
        desk.images.take(message)
    elif operation == "cancel":
        desk.cancel(str(message.get("id")))
    elif operation == "stats":
        peer.send({"op": "stats", "stats": desk.stats()})
