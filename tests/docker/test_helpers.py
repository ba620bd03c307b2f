"""The small programs in the images, run the way the images run them."""

import hashlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from batchyard.acl import operator, users_file
from batchyard.errors import InvalidConfig
from batchyard.settings import Settings
from local.redis_server import free_ports, redis_executable

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "s3cret-word-that-is-long"


def load(name: str) -> ModuleType:
    """A program of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", ROOT / f"docker/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = load("requirements").requirements(project, ["worker"])
    assert set(project["dependencies"]) < set(found)
    assert any(line.startswith("llama-cpp-python==") for line in found)
    assert len(set(found)) == len(found)


def test_an_unknown_extra_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with pytest.raises(SystemExit, match="no extra 'wroker'"):
        load("requirements").requirements(project, ["wroker"])


def test_secrets_fit_together_and_logins_are_made_once(tmp_path: Path) -> None:
    program, folder = load("make_secrets"), tmp_path / "secrets"
    program.main([str(folder)])
    texts = {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}
    url = urlsplit(texts["redis_url_router"])
    assert (url.hostname, url.port, url.path, url.username) == ("redis", 6379, "/0", "router")
    assert (
        f"user router on #{hashlib.sha256(str(url.password).encode()).hexdigest()} " in texts["redis_users"]
    )
    assert str(url.password) not in texts["redis_users"]
    assert load("flower_server").read_login(str(folder / "flower_login")) == texts["flower_login"]
    assert texts[".gitignore"] == "*"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("redis_url_router", "redis_users", "flower_login"):  # roles run under users of their own
        assert (folder / name).stat().st_mode & 0o777 == 0o444
    (folder / "redis_users").unlink()
    program.main([str(folder), "--tenant", "acme", "--tenant", "beta"])
    again = {path.name: path.read_text(encoding="utf-8").strip() for path in folder.iterdir()}
    kept = texts.keys() - {"redis_users"}
    assert {name: again[name] for name in kept} == {name: texts[name] for name in kept}
    assert again.keys() - texts.keys() == {"redis_url_producer-acme", "redis_url_producer-beta"}
    assert "user producer-beta on " in again["redis_users"]


def test_a_login_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "redis_url_router").write_text("redis://:short@redis:6379/0", encoding="utf-8")
    with pytest.raises(SystemExit, match="holds no URL with the user router"):
        load("make_secrets").main([str(tmp_path)])


def test_secrets_are_made_without_any_package(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "docker/make_secrets.py", tmp_path / "secrets"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "redis_url_router" in done.stdout


@pytest.mark.parametrize("content", ["", "yard", "yard:", ":word", "a:b,c:d"])
def test_flower_does_not_start_without_a_login(tmp_path: Path, content: str) -> None:
    path = tmp_path / "login"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidConfig, match="holds no login"):
        load("flower_server").read_login(str(path))


@pytest.mark.parametrize("path", [None, "", "/nowhere/login"])
def test_flower_names_the_variable_when_the_login_is_missing(path: str | None) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load("flower_server").read_login(path)
    assert caught.value.field == "FLOWER_LOGIN_FILE"


@dataclass(frozen=True)
class Started:
    port: int
    process: "subprocess.Popen[bytes]"


@pytest.fixture
def started(tmp_path: Path) -> Iterator["Started"]:
    """Redis as its container starts it."""
    (tmp_path / "users").write_text(users_file({"operator": (operator(), PASSWORD)}, 6), encoding="utf-8")
    port = free_ports(1)[0]
    bin_folder = str(Path(redis_executable()).parent)
    process = subprocess.Popen(
        ["sh", ROOT / "docker/redis-start.sh", "--port", str(port), "--bind", "127.0.0.1"],
        env={
            "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
            "REDIS_USERS_FILE": str(tmp_path / "users"),
            "REDIS_RUN_DIR": str(tmp_path),
            "REDIS_DATA_DIR": str(tmp_path),
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        await_port(port, process)
        yield Started(port, process)
    finally:
        process.terminate()
        process.wait(10)


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        assert process.poll() is None, "redis-server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("redis-server did not listen")


def test_redis_in_its_container_wants_a_login_and_keeps_everything(started: Started, tmp_path: Path) -> None:
    stranger = redis.Redis(port=started.port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=started.port, username="health", password="none") as probe:
        assert probe.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            probe.get("celery-task-meta-J")
    with redis.Redis(port=started.port, username="operator", password=PASSWORD) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert (tmp_path / "redis.conf").stat().st_mode & 0o777 == 0o600
    command = Path(f"/proc/{started.process.pid}/cmdline").read_bytes()
    assert b"redis-server" in command and PASSWORD.encode() not in command


@pytest.mark.parametrize("users", ["", "user default on nopass ~* &* +@all\n", "# user default off -@all\n"])
def test_redis_does_not_start_where_anybody_could_come_in(tmp_path: Path, users: str) -> None:
    (tmp_path / "users").write_text(users, encoding="utf-8")
    done = subprocess.run(
        ["sh", ROOT / "docker/redis-start.sh"],
        env=os.environ | {"REDIS_USERS_FILE": str(tmp_path / "users"), "REDIS_RUN_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "must hold the users of the yard" in done.stderr
    assert not (tmp_path / "redis.conf").exists()


def test_the_health_check_fails_where_nobody_answers(settings: Settings) -> None:
    program = load("healthcheck")
    assert program.answers(settings, "router@nowhere", timeout=0.2) is False


def test_the_health_check_fails_without_redis() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docker/healthcheck.py", "router"],
        env=os.environ
        | {"BATCHYARD_REDIS_URL": f"redis://127.0.0.1:{free_ports(1)[0]}/0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be asked" in done.stderr


def test_the_health_check_finds_the_router(settings: Settings, tmp_path: Path) -> None:
    environment = os.environ | {
        "BATCHYARD_REDIS_URL": settings.url,
        "BATCHYARD_MODELS": str(settings.models),
        "BATCHYARD_ROUTING": str(settings.routing),
        "PYTHONPATH": str(ROOT),
    }
    program, name = load("healthcheck"), f"router@{socket.gethostname()}"
    with (tmp_path / "router.log").open("wb") as log:
        router = subprocess.Popen(
            [sys.executable, "-m", "router", "worker"], env=environment, stdout=log, stderr=log
        )
    try:
        limit = time.monotonic() + 60
        while not program.answers(settings, name, timeout=0.5):
            assert router.poll() is None, (tmp_path / "router.log").read_text(encoding="utf-8")
            assert time.monotonic() < limit, "the router did not come up"
    finally:
        router.terminate()
        router.wait(30)
    assert program.answers(settings, name, timeout=0.2) is False
