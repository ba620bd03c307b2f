"""What every test may use: a real Redis, started once a session and emptied for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from batchyard.settings import Settings
from local.redis_server import RedisServer, start_redis


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"redis_url", "settings"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.redis)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BATCHYARD_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_redis(tmp_path_factory.mktemp("redis"), append_only=False, password="tests-only")
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def settings(redis_url: str) -> Settings:
    root = Path(__file__).resolve().parent.parent
    return Settings(
        redis_url=redis_url,
        models=root / "configs/models.yaml",
        routing=root / "configs/routing.yaml",
        hardware=root / "configs/hardware.yaml",
    )
