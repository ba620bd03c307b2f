"""The files with each user's URL, and the command that makes them."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from batchyard.cli import main
from batchyard.errors import InvalidConfig
from batchyard.logins import read_or_make, url_file
from batchyard.settings import Settings

SERVER = "rediss://redis.example:6380/2?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem"


def test_a_login_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    made = read_or_make(tmp_path, ["router", "worker-qwen2.5:7b/q4"], SERVER)
    assert made["router"] != made["worker-qwen2.5:7b/q4"]
    assert all(len(password) == 48 for password in made.values())
    path = url_file(tmp_path, "worker-qwen2.5:7b/q4")
    assert path.parent == tmp_path and path.stat().st_mode & 0o777 == 0o400
    url = urlsplit(path.read_text(encoding="utf-8").strip())
    assert unquote(url.username or "") == "worker-qwen2.5:7b/q4"
    assert (url.hostname, url.port, url.path, url.query) == (
        "redis.example",
        6380,
        "/2",
        SERVER.partition("?")[2],
    )
    assert read_or_make(tmp_path, ["router", "worker-qwen2.5:7b/q4"], SERVER) == made
    assert Settings(redis_url_file=url_file(tmp_path, "router")).url.startswith("rediss://router:")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "redis://worker:0123456789012345678901234567@h/0",
        "redis://router:short@h/0",
        "redis://:x@[",
        "s3cret",
    ],
)
def test_a_file_that_holds_another_login_is_named_and_not_repeated(content: str, tmp_path: Path) -> None:
    url_file(tmp_path, "router").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidConfig) as caught:
        read_or_make(tmp_path, ["router"], SERVER)
    assert caught.value.field == str(url_file(tmp_path, "router"))
    for secret in ("s3cret", "short", "0123456789"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("server", ["redis://me:pw@h/0", "http://h", "h:6379", "redis://"])
def test_the_servers_url_comes_without_a_login(server: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_or_make(tmp_path, ["router"], server)
    assert caught.value.field == "url" and "pw" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot use it"):
        read_or_make(tmp_path / "nowhere", ["router"], SERVER)


def test_the_command_prints_the_users_and_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["acl", "--tenant", "acme", "--tenant", "beta", "--model", "chat", "--secrets", str(tmp_path)]
    arguments += ["--url", "redis://redis:6379/3"]
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert main([*arguments, "--redis-version", "6"]) == 0
    old = capsys.readouterr().out
    users = [line.split()[1] for line in first.splitlines()]
    assert users == [
        "default", "health", "operator", "router", "worker", "flower", "auditor",
        "worker-chat", "producer-acme", "producer-beta",
    ]  # fmt: skip
    assert "%R~" in first and "%R~" not in old
    assert "&/3.celery.pidbox" in first and "&/3.celeryev/*" in first
    for user in users[2:]:
        text = url_file(tmp_path, user).read_text(encoding="utf-8").strip()
        password = str(urlsplit(text).password)
        assert password not in first
        assert hashlib.sha256(password.encode()).hexdigest() in first and password not in old
    assert main(["acl", "--tenant", "a b", "--secrets", str(tmp_path), "--url", "redis://redis:6379/0"]) == 2
    assert "is no name" in capsys.readouterr().err
