"""Ledgers of every kind, finals in a real Redis, auditors as real processes."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from batchyard import names, store
from batchyard.audit.ledger import Ledger, open_ledger
from batchyard.audit.record import FinalRecord, Selection
from batchyard.settings import Settings
from batchyard.states import State

ROOT = Path(__file__).resolve().parents[3]
DYING = Path(__file__).with_name("dying_auditor.py")
LIMIT_S = 120.0

PROVENANCE = {
    "model_sha256": "a" * 64,
    "quantisation": "Q4_K_M",
    "llama_build": "b1",
    "prompt_sha256": "b" * 64,
    "policy": "p1",
    "worker": "w@h",
}
ROUTE = {"task": "defect_detect", "model": "chat", "by": "job", "reason": "the job says so", "policy": "p1"}


def answer(text: str = "ok", **more: Any) -> dict[str, Any]:
    """The return value of a job that succeeded."""
    return {"text": text, "route": ROUTE, "provenance": PROVENANCE} | more


class Finals:
    """A yard's part: it stores final states, as workers do."""

    def __init__(self, url: str) -> None:
        self.redis: redis.Redis = redis.Redis.from_url(url)

    def note(self) -> None:
        """As an auditor that was started once."""
        self.redis.hset(names.AUDITING_KEY, "since", 1)

    def finish(self, *job_ids: str, batch: str = "", result: Any = None) -> None:
        """End jobs with SUCCESS."""
        value = answer() if result is None else result
        self.store([(job_id, batch, State.SUCCESS, value) for job_id in job_ids])

    def store(self, ends: Sequence[tuple[str, str, State, Any]]) -> None:
        """End jobs, each (id, batch, state, result)."""
        documents = [
            (job_id, batch, state, store.state_document(job_id, state, result))
            for job_id, batch, state, result in ends
        ]
        assert store.run(self.redis, store.finish(documents, 600)) == len(ends)

    def waiting(self) -> int:
        """Results that are not on record."""
        return int(self.redis.xlen(names.FINALS_KEY))


@pytest.fixture
def finals(settings: Settings) -> Iterator[Finals]:
    finals = Finals(settings.url)
    finals.note()
    yield finals
    finals.redis.close()


def postgresql_programs() -> Path | None:
    """The folder of initdb and postgres; Debian does not put it on PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The folder of the socket of a real PostgreSQL, which runs as nobody where we are root."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL on this machine")
    folder = Path(tempfile.mkdtemp(prefix="audit-pg-"))
    as_whom: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_whom = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8"],
        cwd=folder, capture_output=True, text=True, check=False, **as_whom,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "", "-F"],
            cwd=folder, stdout=log, stderr=log, **as_whom,
        )  # fmt: skip
    try:
        socket = folder / ".s.PGSQL.5432"
        until(lambda: server.poll() is not None or postgresql_answers(folder))
        assert socket.exists(), (folder / "log").read_text(encoding="utf-8")
        yield str(folder)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(LIMIT_S)
        shutil.rmtree(folder)


def postgresql_answers(folder: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(folder), user="owner", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database."""
    import psycopg

    with psycopg.connect(host=postgresql_server, user="owner", dbname="postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE audit")
        yield f"postgresql://owner@/audit?host={postgresql_server}"
        admin.execute("DROP DATABASE audit WITH (FORCE)")


@pytest.fixture(params=["sqlite", "jsonl", "postgresql"])
def audit_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of each kind that is not there yet."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path}/audit.db" if request.param == "sqlite" else f"jsonl:{tmp_path}/audit"


@pytest.fixture
def ledger(audit_url: str) -> Iterator[Ledger]:
    """A ledger of each kind, ready to write."""
    with closing(open_ledger(audit_url)) as ledger:
        ledger.prepare()
        yield ledger


def everything(url: str) -> list[FinalRecord]:
    """All results in a ledger."""
    with closing(open_ledger(url)) as ledger:
        return [record for page in ledger.export(Selection()) for record in page]


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Starts auditors: `start(audit_url)`, or one that dies: `start(audit_url, dies="after")`."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(
        audit_url: str, *, name: str = "one", dies: str | None = None, url: str = settings.url
    ) -> subprocess.Popen[bytes]:
        environ = os.environ | {"BATCHYARD_REDIS_URL": url, "BATCHYARD_AUDIT_URL": audit_url}
        arguments = ["-m", "batchyard.audit", "--name", name] if dies is None else [str(DYING), name, dies]
        environ["PYTHONPATH"] = str(ROOT)
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environ)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()


def until(holds: Callable[[], object]) -> None:
    """Return when it holds."""
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.02)
