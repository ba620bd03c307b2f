"""A closed-loop HTTP client: so many connections, each asks again as soon as it has its answer.

Plain asyncio streams in one thread, keep-alive: on two cores a heavy client would take from the server what
is to be measured. It speaks as much HTTP/1.1 as its peers answer: a length or chunks.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]
ANSWER_SECONDS = 600.0


class HttpError(Exception):
    """The server answered with another status than 200, or not in HTTP."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and what is asked there."""

    port: int
    path: str
    host: str = "127.0.0.1"


def ask_all(address: Address, bodies: Sequence[Body], connections: int) -> list[dict[str, Any]]:
    """Every body's answer, in order, `connections` of them under way at any time.

    Raises:
        HttpError: one was refused.
        OSError: the server is not there, or closed a connection.
        TimeoutError: one took longer than `ANSWER_SECONDS`.
    """
    return asyncio.run(_ask_all(address, bodies, connections))


async def _ask_all(address: Address, bodies: Sequence[Body], connections: int) -> list[dict[str, Any]]:
    waiting = iter(list(enumerate(bodies)))
    found: dict[int, dict[str, Any]] = {}

    async def keep_busy() -> None:
        connection = _Connection(address)
        try:
            for number, body in waiting:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found[number] = await connection.ask(body)
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(keep_busy())
    return [found[number] for number in range(len(bodies))]


class _Connection:
    """A kept connection, opened again where the server has ended it: many do after a hundred requests."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: Body) -> dict[str, Any]:
        address = self._address
        data = json.dumps(body, ensure_ascii=False).encode()
        head = (
            f"POST {address.path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        kept = self._streams is not None
        status, headers, answer = await self._send(head.encode() + data)
        if not status and kept:
            self.close()
            status, headers, answer = await self._send(head.encode() + data)
        if headers.get("connection", "").lower() == "close":
            self.close()
        words = status.split(b" ", 2)
        if len(words) < 2 or words[1] != b"200":
            raise HttpError(f"{address.path}: {status.decode().strip()}: {answer[:500].decode()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    async def _send(self, data: bytes) -> tuple[bytes, dict[str, str], bytes]:
        """Status line, headers and body; all empty where the server hung up instead."""
        if self._streams is None:
            address = self._address
            self._streams = await asyncio.open_connection(address.host, address.port, limit=1 << 24)
        reader, writer = self._streams
        try:
            writer.write(data)
            await writer.drain()
            status = await reader.readline()
        except ConnectionError:
            status = b""
        if not status:
            return b"", {}, b""
        headers = await _headers(reader)
        return status, headers, await _body(reader, headers)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)
