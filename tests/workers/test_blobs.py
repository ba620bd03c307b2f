"""What an engine gets when it asks for an image."""

import base64
import hashlib
import struct
import zlib
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard import store
from batchyard.errors import YardUnavailable
from batchyard.job import Job
from batchyard.settings import Settings
from tests.batchyard.test_images import png
from workers.blobs import ImageLimits, engine_name, image_frame, owner_of

LIMITS = ImageLimits(1_000_000, 1_000_000)


def bomb() -> bytes:
    """A small PNG whose header announces 50,000 × 50,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    whole = png()
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


@pytest.fixture
def connection(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.url) as connection:
        yield connection


def put(connection: redis.Redis, data: bytes, sha256: str | None = None) -> str:
    sha256 = sha256 or hashlib.sha256(data).hexdigest()
    store.run(connection, store.put_blob("acme", sha256, data, 60))
    return sha256


def test_the_file_as_it_was_attached(connection: redis.Redis) -> None:
    sha256 = put(connection, png())
    frame = image_frame(connection, "e" * 64, "acme", sha256, LIMITS)
    assert (frame["op"], frame["sha256"]) == ("image", "e" * 64)
    assert base64.b64decode(frame["data"]) == png()


@pytest.mark.parametrize(
    ("data", "limits", "code"),
    [
        (None, LIMITS, "image_missing"),
        (b"other content", LIMITS, "image_corrupt"),
        (png()[:-20], LIMITS, "image_corrupt"),
        (png(), ImageLimits(10, 1_000_000), "image_too_large"),
        (bomb(), LIMITS, "image_too_large"),
    ],
    ids=["gone", "replaced", "cut", "bytes", "pixels"],
)
def test_or_why_there_is_none(
    connection: redis.Redis, data: bytes | None, limits: ImageLimits, code: str
) -> None:
    sha256 = "f" * 64
    if data is not None:
        sha256 = put(connection, data, sha256 if data == b"other content" else None)
    frame = image_frame(connection, "e" * 64, "acme", sha256, limits)
    assert (frame["op"], frame["sha256"], frame["error"]["code"]) == ("image", "e" * 64, code)
    assert frame["error"]["remedy"]


def test_another_tenants_image_is_not_there_whoever_knows_its_hash(connection: redis.Redis) -> None:
    sha256 = put(connection, png())
    frame = image_frame(connection, "e" * 64, "beta", sha256, LIMITS)
    assert frame["error"]["code"] == "image_missing"


def test_an_engines_name_leads_back_to_the_image_of_one_tenant() -> None:
    image = {"type": "image", "sha256": "f" * 64}
    jobs = [
        Job(tenant=tenant, messages=[{"role": "user", "content": [image]}]) for tenant in ("acme", "beta")
    ]
    named = [engine_name(job.tenant, "f" * 64) for job in jobs]
    assert len({*named, "f" * 64}) == 3
    assert [owner_of(name, jobs) for name in named] == [("acme", "f" * 64), ("beta", "f" * 64)]
    assert engine_name("default", "f" * 64) == "f" * 64
    assert owner_of("0" * 64, jobs) == ("", "")


def test_a_store_that_is_away_is_no_answer() -> None:
    with pytest.raises(YardUnavailable):
        image_frame(redis.Redis(port=1, retry=Retry(NoBackoff(), 0)), "e" * 64, "acme", "f" * 64, LIMITS)
