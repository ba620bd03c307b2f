"""The logins of a yard's Redis users: a folder with one file a user that holds its URL, password and all.

The URL's file is the only place of a password: it is made once, and read again when the rules change.
"""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from batchyard.errors import InvalidConfig

PASSWORD_BYTES = 24
"""Random bytes of a password: an ACL file shows its SHA-256, which must not be worth guessing at."""
_LEAST_PASSWORD = 20
"""Characters; a shorter one could be found from its hash."""


def url_file(folder: Path, user: str) -> Path:
    """The file of a user's URL."""
    return folder / ("redis_url_" + user.replace("/", "%2F"))


def read_or_make(folder: Path, users: Iterable[str], server: str, mode: int = 0o400) -> dict[str, str]:
    """The password of each user: from its file, or a new one that is written there, with `mode`.

    Args: `server` is the URL of the server without a login, such as redis://redis:6379/0.

    Raises:
        InvalidConfig: the URL of the server has a login or is none; a file cannot be read or written, or
            holds no such user's URL.
    """
    parts = urlsplit(server)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or "@" in parts.netloc:
        raise InvalidConfig(
            "must be the server's URL without user and password",
            field="url",
            remedy="such as redis://redis:6379/0",
        )
    passwords: dict[str, str] = {}
    for user in users:
        path = url_file(folder, user)
        try:
            if not path.exists():
                login = f"{quote(user, safe='')}:{secrets.token_hex(PASSWORD_BYTES)}"
                _write(path, parts._replace(netloc=f"{login}@{parts.netloc}").geturl(), mode)
            passwords[user] = _password(path, user)
        except OSError as exc:
            raise InvalidConfig(
                f"cannot use it: {exc.strerror}", field=str(path), remedy="name a folder that you may write"
            ) from None
    return passwords


def _password(path: Path, user: str) -> str:
    try:
        parts = urlsplit(path.read_text(encoding="utf-8").strip())
        found, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        found, password = "", ""
    if found != user or len(password) < _LEAST_PASSWORD:
        raise InvalidConfig(
            f"holds no URL with the user {user} and a password of {_LEAST_PASSWORD} characters or more",
            field=str(path),
            remedy="delete it and a new one is made, or correct it",
        )
    return password


def _write(path: Path, text: str, mode: int) -> None:
    """Write a new file that nobody else could read in between."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    path.chmod(mode)
