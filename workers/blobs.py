"""Images on their way from the store to an engine that asks for them: fetched, checked, put into a frame.

It knows the store and the port's `image` frame, not the pool and its jobs.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any

import redis

from batchyard import store
from batchyard.errors import InvalidJob
from batchyard.images import check_image
from batchyard.operations import image_missing
from workers.engine.frames import MAX_FRAME_BYTES

_MOST_BYTES = (MAX_FRAME_BYTES - 4096) // 4 * 3
"""What a frame can carry in base64."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image may bring: bytes of its file, and pixels by its header, read before it is decoded."""

    max_bytes: int
    max_pixels: int


def image_frame(connection: redis.Redis, sha256: str, limits: ImageLimits) -> dict[str, Any]:
    """The answer to an engine's `need_image`: the file, or why there is none.

    Raises:
        YardUnavailable: Redis cannot be reached, or refuses.
    """
    data = store.run(connection, store.get_blob(sha256))
    try:
        if data is None:
            raise image_missing(sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InvalidJob(
                "what is stored under the image's hash has another content",
                code="image_corrupt",
                remedy="attach its bytes again",
            )
        check_image(data, min(limits.max_bytes, _MOST_BYTES), limits.max_pixels)
    except InvalidJob as exc:
        error = {"code": exc.code, "message": exc.message, "remedy": exc.remedy}
        return {"op": "image", "sha256": sha256, "error": error}
    return {"op": "image", "sha256": sha256, "data": base64.b64encode(data).decode("ascii")}
