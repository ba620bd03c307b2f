"""A real Redis with the users of a yard, for tests that come as one of them."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from batchyard.acl import users_file, yard_users
from batchyard.logins import read_or_make, url_file
from batchyard.settings import Settings
from local.leash import leashed
from local.redis_server import HOST, free_ports, redis_executable

ROOT = Path(__file__).resolve().parents[1]


def redis_version() -> int:
    """The first number of the version of this machine's redis-server."""
    said = subprocess.run(
        [redis_executable(), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"v=(\d+)\.", said)
    assert found is not None, said
    return int(found[1])


@dataclass(frozen=True)
class Roles:
    """A running server; `folder` has a file with the URL of each user."""

    folder: Path
    port: int

    def url_file(self, user: str) -> Path:
        return url_file(self.folder, user)

    def settings(self, user: str) -> Settings:
        """Settings of a process that comes as this user."""
        return Settings(
            redis_url_file=self.url_file(user),
            models=ROOT / "configs/models.yaml",
            routing=ROOT / "configs/routing.yaml",
            hardware=ROOT / "configs/hardware.yaml",
        )

    def come_as(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.settings(user).url, decode_responses=True)


@contextmanager
def redis_with_users(folder: Path, tenants: Sequence[str], models: Sequence[str] = ()) -> Iterator[Roles]:
    """Start a server whose users are those of the tenants and models, and end it."""
    (port,) = free_ports(1)
    users = yard_users(tenants, models)
    passwords = read_or_make(folder, users, f"redis://{HOST}:{port}/0")
    acl = folder / "users.acl"
    content = {name: (rights, passwords[name]) for name, rights in users.items()}
    acl.write_text(users_file(content, redis_version()), encoding="utf-8")
    command = [redis_executable(), "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(folder)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            leashed([*command, "--aclfile", str(acl)], signal.SIGTERM), stdout=log, stderr=log
        )
    roles = Roles(folder, port)
    try:
        _await(roles, process)
        yield roles
    finally:
        process.terminate()
        process.wait(30)


def _await(roles: Roles, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        assert process.poll() is None, (roles.folder / "redis.log").read_text(encoding="utf-8")
        try:
            with redis.Redis(port=roles.port, username="health", password="none") as probe:
                probe.ping()
                return
        except redis.ConnectionError:
            time.sleep(0.02)
    raise AssertionError("redis-server did not listen")
