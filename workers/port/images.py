"""Images for the requests that name them: asked for by hash, each once at a time.

It knows the port's frames of images, not what is done with the bytes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from workers.engine.errors import IMAGE_CORRUPT, IMAGE_MISSING, EngineError


class ImageSource:
    """Where a backend gets images from; `emit` takes the port's frames."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._asked: dict[str, asyncio.Future[bytes | EngineError]] = {}

    async def get(self, sha256: str) -> bytes:
        """The file of an image. Raises EngineError: image_missing, image_corrupt, image_too_large."""
        asked = self._asked.get(sha256)
        if asked is None:
            asked = self._asked[sha256] = asyncio.get_running_loop().create_future()
            self._emit({"op": "need_image", "sha256": sha256})
        found = await asyncio.shield(asked)  # others may wait for the same one
        if isinstance(found, EngineError):
            raise found
        return found

    def take(self, message: dict[str, Any]) -> None:
        """The answer to a `need_image`: `data` is the file in base64, `error` says why there is none."""
        asked = self._asked.pop(str(message.get("sha256")), None)
        if asked is not None:
            asked.set_result(_content(message))


def _content(message: dict[str, Any]) -> bytes | EngineError:
    error = message.get("error")
    if isinstance(error, dict):
        code, why = error.get("code") or IMAGE_MISSING, error.get("message") or "there is no such image"
        return EngineError(str(code), str(why), field="messages", remedy=error.get("remedy"))
    try:
        return base64.b64decode(message["data"], validate=True)
    except (LookupError, TypeError, ValueError) as fault:
        return EngineError(IMAGE_CORRUPT, f"the image's frame is no base64: {fault}", field="messages")
