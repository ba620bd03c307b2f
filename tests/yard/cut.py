"""A cable that tests can cut: a TCP proxy in a thread, between a process of the yard and its Redis.

It can refuse connections (`cut`, or `cut_at` certain words on their way to Redis), delay what it carries,
or go dark: what stood stays open and carries nothing, new connections are accepted and never answered,
as behind a switch that lost its power: worse than a cut, for neither end is told. `mend` carries new
connections again, and those that were dark stay so for ever.
"""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
_BYTES = 1 << 16
_SECONDS = 10.0


class Cable:
    """Carries connections from `port` to the Redis at `url`. Use as a context manager."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url).port or 6379
        """The port that new connections are carried to; it may be changed."""
        self.carried = 0
        """Connections carried so far."""
        self._delay = 0.0
        self._words: bytes | None = None
        self._dark = False
        self._links: set[asyncio.Task[None]] = set()
        self._open: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable", daemon=True)
        self._thread.start()
        self.port = self._do(self._listen(0))
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{login}{at}{HOST}:{self.port}"))
        """The URL of the same Redis at this end of the cable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        self._do(self._refuse())

    def cut_at(self, words: bytes) -> None:
        """Cut as soon as these words are to be carried to Redis, and do not carry them."""
        self._words = words

    @property
    def is_cut(self) -> bool:
        """Whether connections are refused."""
        return self._server is None

    def darken(self) -> None:
        """Carry nothing any more, and close nothing; new connections are accepted and stay silent."""
        self._do(self._stop_carrying())

    def mend(self, delay: float = 0.0) -> None:
        """Carry new connections, each piece of data `delay` seconds late."""
        self._do(self._mend(delay))

    def _do(self, work: "Coroutine[Any, Any, Any]") -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    async def _listen(self, port: int) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._stop_pumps()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _stop_carrying(self) -> None:
        self._dark = True
        await self._stop_pumps()

    async def _mend(self, delay: float) -> None:
        self._dark, self._delay = False, delay
        if self._server is None:
            await self._listen(self.port)

    async def _stop_pumps(self) -> None:
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        if self._dark:
            return
        try:
            there, back = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open.append(back)
        if self._dark:
            return
        self.carried += 1
        for source, sink, up in ((reader, back, True), (there, writer, False)):
            link = asyncio.ensure_future(self._pump(source, sink, up))
            self._links.add(link)
            link.add_done_callback(self._links.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool) -> None:
        with suppress(OSError):  # one end is gone: so is the other
            while data := await source.read(_BYTES):
                if up and self._words is not None and self._words in data:
                    self._words = None
                    self._loop.create_task(self._refuse())
                    return
                if self._delay:
                    await asyncio.sleep(self._delay)
                sink.write(data)
                await sink.drain()
        sink.close()
