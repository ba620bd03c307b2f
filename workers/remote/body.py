"""A bound on what an endpoint may send: a body is counted as it arrives, before anything is made of it.

It knows no answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx2

from workers.remote.reply import NoAnswer

MOST_BYTES: Final = 32 * 1024 * 1024
"""Half of what a frame of the port may have: in ours the log-probabilities take more room."""
PLAIN: Final = {"Accept-Encoding": "identity"}
"""Header that asks for bodies as they are: a small one that is compressed can unpack to any size."""


class Body(httpx2.AsyncByteStream):
    """The pieces of a body, as long as they are not too many bytes together."""

    def __init__(self, pieces: httpx2.AsyncByteStream) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces as they come. Raises NoAnswer once they are too long."""
        count = 0
        async for piece in self._pieces:
            count += len(piece)
            if count > MOST_BYTES:
                raise NoAnswer(f"it is longer than {MOST_BYTES} bytes")
            yield piece

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._pieces.aclose()


async def bound(response: httpx2.Response) -> None:
    """Hook of the HTTP client, called before it reads a body. Raises NoAnswer for one that is compressed."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise NoAnswer("it is compressed, which nobody has asked for")
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise TypeError(f"a body of the asynchronous client is no {type(response.stream).__name__}")
    response.stream = Body(response.stream)
