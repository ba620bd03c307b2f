"""What the environment may say, and that a secret in it is not repeated."""

from pathlib import Path

import pytest

from batchyard.errors import InvalidConfig
from batchyard.settings import Settings, load_settings

UNUSABLE = [
    "sentinel://:hunter2@h:1/0",
    "redis+socket:///hunter2",
    "http://:hunter2@h",
    "hunter2",
    "",
    "redis://:hunter2@h:notaport/0",
    "redis://:hunter2@h:99999/0",
    "redis://:hun/hunter2@h:1/0",
    "redis://:hunter2@[::1/0",
    "redis://:hunter2@h/hunter2",
    "redis://:hunter2@h/0?hunter2=1",
    "redis://:hunter2@h/0?db=3",
    "redis://:hunter2@h/0?socket_timeout=5",
    "rediss://:hunter2@h/0",
    "rediss://:hunter2@h/0?ssl_cert_reqs=hunter2",
    "unix:///run/hunter2.sock",
    "redis://:hunter2@h 1/0",
]


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_url_that_cannot_be_used_is_refused_when_it_is_read(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text(url + "\n", encoding="utf-8")
    monkeypatch.setenv("BATCHYARD_REDIS_URL", url)
    with pytest.raises(InvalidConfig) as from_variable:
        load_settings()
    monkeypatch.setenv("BATCHYARD_REDIS_URL", "redis://127.0.0.1:6379/0")
    with pytest.raises(InvalidConfig) as from_file:
        _ = load_settings(redis_url_file=secret).url
    assert from_variable.value.field == "BATCHYARD_REDIS_URL"
    assert from_file.value.field == "BATCHYARD_REDIS_URL_FILE"
    for caught in (from_variable, from_file):
        assert "hunter2" not in str(caught.value)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:p%2Fw@h:6380/3",
        "rediss://user:pw@h:6380/0?ssl_cert_reqs=none",
        "redis://[::1]:6379/0",
    ],
)
def test_a_url_that_can_be_used_is_taken_as_it_is(url: str, tmp_path: Path) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text(f"  {url}\n", encoding="utf-8")
    assert Settings(redis_url=url).url == url
    assert Settings(redis_url_file=secret).url == url


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_secret_that_cannot_be_read_is_said(content: bytes | None, tmp_path: Path) -> None:
    secret = tmp_path / "redis_url"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(InvalidConfig, match="cannot read") as caught:
        _ = Settings(redis_url_file=secret).url
    assert caught.value.field == "BATCHYARD_REDIS_URL_FILE"


AUDIT_UNUSABLE = [
    "mysql://u:hunter2@h/d",
    "postgresql+psycopg2://u:hunter2@h/d",
    "sqlite://hunter2",
    "sqlite:///",
    "sqlite:///hunter2?mode=memory",
    "jsonl:",
    "hunter2",
    "",
]


@pytest.mark.parametrize("url", AUDIT_UNUSABLE)
def test_an_audit_url_of_no_kind_that_we_have_is_refused_when_it_is_read(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "audit_url"
    secret.write_text(url + "\n", encoding="utf-8")
    with pytest.raises(InvalidConfig) as from_file:
        _ = load_settings(audit_url_file=secret).audit
    monkeypatch.setenv("BATCHYARD_AUDIT_URL", url)
    with pytest.raises(InvalidConfig) as from_variable:
        load_settings()
    assert from_variable.value.field == "BATCHYARD_AUDIT_URL"
    assert from_file.value.field == "BATCHYARD_AUDIT_URL_FILE"
    for caught in (from_variable, from_file):
        assert "hunter2" not in str(caught.value)
        assert caught.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///state/audit.db",
        "sqlite:////var/lib/a b.db",
        "postgresql://u:p%2Fw@h:5432/d",
        "postgresql+psycopg://u@/d?host=/run/postgresql",
        "jsonl:/var/lib/audit files",
    ],
)
def test_an_audit_url_that_can_be_used_is_taken_as_it_is(url: str, tmp_path: Path) -> None:
    secret = tmp_path / "audit_url"
    secret.write_text(f"  {url}\n", encoding="utf-8")
    assert Settings(audit_url=url).audit == url
    assert Settings(audit_url_file=secret).audit == url


def test_another_setting_that_does_not_fit_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHYARD_CHUNK_SIZE", "many")
    with pytest.raises(InvalidConfig) as caught:
        load_settings()
    assert caught.value.field == "BATCHYARD_CHUNK_SIZE"
