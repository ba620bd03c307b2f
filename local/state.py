"""The state directory: what outlives a command, and how a later command finds the yard that is up.

Holds Redis's files, the logs, the passwords and a report of the supervisor. Only its owner may read it.
"""

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from batchyard.errors import InvalidConfig

FLOWER_USER = "yard"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords of one yard, made once."""

    redis: str
    flower: str


@dataclass(frozen=True, slots=True)
class RoleReport:
    """How one role fares: its process (None while it is down), how often it was restarted, and how many
    times in a row it died young."""

    name: str
    pid: int | None
    restarts: int = 0
    early_deaths: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What the supervisor last wrote: its phase (starting, up, stopping), the URL of Flower, the models
    that it starts workers for, those it leaves out and why, and the roles."""

    phase: str
    flower: str = ""
    models: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    roles: tuple[RoleReport, ...] = ()


@dataclass(frozen=True, slots=True)
class StateDir:
    """The files of one yard."""

    path: Path

    @property
    def logs(self) -> Path:
        """Where each role's log is."""
        return self.path / "logs"

    @property
    def redis(self) -> Path:
        """Where Redis keeps its append-only file and its configuration."""
        return self.path / "redis"

    @property
    def url_file(self) -> Path:
        """The Redis URL with its password, for BATCHYARD_REDIS_URL_FILE."""
        return self.path / "redis_url"

    def prepare(self) -> None:
        """Create the folders, readable by their owner alone."""
        for folder in (self.path, self.logs, self.redis):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    def log(self, role: str) -> Path:
        """The log of a role."""
        return self.logs / f"{role}.log"

    def log_tail(self, role: str, lines: int = 15) -> str:
        """The last lines of a role's log."""
        path = self.log(role)
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-lines:])

    def secrets(self) -> Secrets:
        """The passwords of this yard; made up at the first call."""
        path = self.path / "secrets.json"
        if not path.exists():
            made = Secrets(secrets.token_urlsafe(24), secrets.token_urlsafe(12))
            self.write_private(path, json.dumps(asdict(made)))
        try:
            return Secrets(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as exc:
            raise InvalidConfig(
                "is damaged", field=str(path), remedy="make down, then delete the file; a new one is made"
            ) from exc

    def write_private(self, path: Path, text: str) -> None:
        """Replace a file in one step; only its owner may read it."""
        scratch = path.with_name(path.name + ".new")
        scratch.unlink(missing_ok=True)
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        scratch.replace(path)

    def write_report(self, report: Report) -> None:
        """Say how the yard fares."""
        self.write_private(self.path / "yard.json", json.dumps(asdict(report), indent=1))

    def clear_report(self) -> None:
        """Forget an earlier yard's report."""
        (self.path / "yard.json").unlink(missing_ok=True)

    def read_report(self) -> Report | None:
        """What the supervisor last wrote, or None."""
        try:
            data: dict[str, Any] = json.loads((self.path / "yard.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        data["models"] = tuple(data["models"])
        data["roles"] = tuple(RoleReport(**role) for role in data["roles"])
        return Report(**data)

    def take_lock(self) -> IO[str] | None:
        """The lock that the supervisor holds while it lives, with its pid inside; None if it is taken."""
        file = (self.path / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        return file

    def supervisor(self) -> int | None:
        """The pid of the supervisor that is alive, or None. A stale pid is never returned."""
        path = self.path / "lock"
        if not path.exists():
            return None
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read()
                return int(text) if text else None
        return None
