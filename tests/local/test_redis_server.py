import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from batchyard.errors import InvalidConfig, YardUnavailable
from local import redis_server
from local.redis_server import answers, free_ports, redis_command, redis_url, start_redis


def test_answers_with_its_password_and_refuses_without(tmp_path: Path) -> None:
    server = start_redis(tmp_path, append_only=True, password="p%/:@w")
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("bind")["bind"] == "127.0.0.1"
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.stop()
    assert not answers(server.url)


def test_password_is_in_no_command_line_and_in_a_private_file(tmp_path: Path) -> None:
    server = start_redis(tmp_path, append_only=False, password="well-kept")
    try:
        assert "well-kept" not in " ".join(psutil.Process(server.process.pid).cmdline())
        assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600
    finally:
        server.stop()


def test_what_was_written_survives_a_restart(tmp_path: Path) -> None:
    first = start_redis(tmp_path, append_only=True, password=None)
    with redis.Redis.from_url(first.url) as client:
        client.set("kept", "yes")
    first.stop()
    second = start_redis(tmp_path, append_only=True, password=None)
    try:
        with redis.Redis.from_url(second.url) as client:
            assert client.get("kept") == b"yes"
    finally:
        second.stop()


def test_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path; from local.redis_server import start_redis\n"
        "print(start_redis(Path(sys.argv[1]), append_only=False, password=None).process.pid, flush=True)\n"
        "signal.pause()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=redis_server_root()
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert not alive and gone


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'Fatal: the disk is on fire'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(YardUnavailable, match="disk is on fire"):
        start_redis(tmp_path / "state", append_only=False, password=None)


def test_no_redis_server_anywhere_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InvalidConfig, match=r"batchyard\[local\]"):
        redis_server.redis_executable()


def test_configuration_is_written_again_with_each_start(tmp_path: Path) -> None:
    redis_command(tmp_path, 1, append_only=False, password="first")
    command = redis_command(tmp_path, 2, append_only=True, password="second")
    text = Path(command[-1]).read_text()
    assert "port 2\n" in text and "second" in text and "first" not in text


def test_ports_differ_and_a_password_is_quoted() -> None:
    assert len(set(free_ports(20))) == 20
    assert redis_url(7, "a/b@c") == "redis://:a%2Fb%40c@127.0.0.1:7/0"


def redis_server_root() -> Path:
    return Path(redis_server.__file__).resolve().parent.parent
