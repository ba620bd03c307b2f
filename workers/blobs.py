"""Images on their way from the store to an engine that asks for them: fetched, checked, put into a frame.

An engine keeps what it has encoded under the name it was asked for. Each tenant's images have names of their
own there, as they have keys of their own in the store: who knows an image's hash has not got the image by
that. It knows the store and the port's `image` frame, not the pool.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from batchyard import store
from batchyard.errors import InvalidJob
from batchyard.images import check_image
from batchyard.job import Job
from batchyard.names import DEFAULT_TENANT, TENANT_SEPARATOR
from batchyard.operations import image_missing
from workers.engine.frames import MAX_FRAME_BYTES

_MOST_BYTES = (MAX_FRAME_BYTES - 4096) // 4 * 3
"""What a frame can carry in base64."""


@dataclass(frozen=True)
class ImageLimits:
    """What an image may bring: bytes of its file, and pixels by its header, read before it is decoded."""

    max_bytes: int
    max_pixels: int


def engine_name(tenant: str, sha256: str) -> str:
    """What a tenant's image is called in an engine, 64 hexadecimal digits like its hash."""
    if tenant == DEFAULT_TENANT:
        return sha256
    return hashlib.sha256(f"{tenant}{TENANT_SEPARATOR}{sha256}".encode()).hexdigest()


def owner_of(name: str, jobs: Iterable[Job]) -> tuple[str, str]:
    """Tenant and hash of the image that an engine asks for; both empty where none of the jobs has it."""
    for job in jobs:
        for sha256 in job.images:
            if engine_name(job.tenant, sha256) == name:
                return job.tenant, sha256
    return "", ""


def image_frame(
    connection: redis.Redis, name: str, tenant: str, sha256: str, limits: ImageLimits
) -> dict[str, Any]:
    """The answer to an engine's `need_image` of `name`: the file, or why there is none.

    Raises:
        YardUnavailable: Redis cannot be reached, or refuses.
    """
    data = store.run(connection, store.get_blob(tenant, sha256))
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
        return {"op": "image", "sha256": name, "error": error}
    return {"op": "image", "sha256": name, "data": base64.b64encode(data).decode("ascii")}
