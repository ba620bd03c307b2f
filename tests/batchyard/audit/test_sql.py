"""What the databases themselves refuse, and what they are set to."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from batchyard.audit.ledger import LedgerUnavailable, add_review, open_ledger
from batchyard.audit.sql import SqlLedger
from batchyard.audit.tables import guards, metadata, results, reviews
from batchyard.errors import InvalidConfig
from tests.batchyard.audit.conftest import everything
from tests.batchyard.audit.test_ledger import records

CHANGES = [
    "UPDATE batchyard_results SET state = 'FAILURE'",
    "DELETE FROM batchyard_results",
    "UPDATE batchyard_reviews SET why = 'x'",
    "DELETE FROM batchyard_reviews WHERE sequence = 1",
]


def fill(url: str) -> None:
    """Three results, one review."""
    with closing(open_ledger(url)) as ledger:
        ledger.prepare()
        ledger.append(records(3))
        add_review(ledger, "J1", "Li", "looked", '"pass"')


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    file = tmp_path / "new" / "audit.db"
    fill(f"sqlite:///{file}")
    return file


@pytest.mark.parametrize("statement", CHANGES)
def test_sqlite_refuses_to_change_or_take_away_a_row(sqlite_file: Path, statement: str) -> None:
    with (
        closing(sqlite3.connect(sqlite_file)) as raw,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        raw.execute(statement)
    assert everything(f"sqlite:///{sqlite_file}") == records(3)


def test_sqlite_replaces_no_row_either(sqlite_file: Path) -> None:
    columns = ", ".join(column.name for column in results.c if column.name != "number")
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as raw:
        as_it_is = f"SELECT number, {columns} FROM batchyard_results WHERE job_id = 'J1'"
        before = raw.execute(as_it_is).fetchall()
        same = columns.replace("state", "'FORGED'")
        raw.execute(
            f"INSERT OR REPLACE INTO batchyard_results ({columns}) SELECT {same} FROM batchyard_results"
        )
        forged = columns.replace("job_id", "'FORGED'")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            raw.execute(
                f"INSERT OR REPLACE INTO batchyard_results (number, {columns}) "
                f"SELECT number, {forged} FROM batchyard_results WHERE job_id = 'J1'"
            )
        assert raw.execute(as_it_is).fetchall() == before
        assert raw.execute("SELECT count(*) FROM batchyard_results").fetchone() == (3,)


def test_sqlite_writes_to_the_disk_and_lets_others_read(sqlite_file: Path) -> None:
    ledger = SqlLedger(f"sqlite:///{sqlite_file}")
    with closing(ledger), ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    assert stat.S_IMODE(sqlite_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("statement", [*CHANGES, "TRUNCATE batchyard_results"])
def test_postgresql_refuses_to_change_or_take_away_a_row(postgresql_url: str, statement: str) -> None:
    fill(postgresql_url)
    engine = create_engine(postgresql_url)
    with engine.begin() as connection, pytest.raises(DBAPIError, match="append-only"):
        connection.execute(text(statement))
    engine.dispose()
    assert everything(postgresql_url) == records(3)


def test_an_auditor_in_postgresql_needs_to_read_and_add_alone(postgresql_url: str) -> None:
    with closing(open_ledger(postgresql_url)) as owner:
        owner.prepare()
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE auditor LOGIN"))
        connection.execute(text("GRANT SELECT, INSERT ON batchyard_results, batchyard_reviews TO auditor"))
    try:
        fill(postgresql_url.replace("owner@", "auditor@"))
        assert len(everything(postgresql_url)) == 3
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP OWNED BY auditor"))
            connection.execute(text("DROP ROLE auditor"))
        engine.dispose()


def test_postgresql_takes_what_no_text_may_hold(postgresql_url: str) -> None:
    with closing(open_ledger(postgresql_url)) as ledger:
        ledger.prepare()
        odd = replace(records(1)[0], gap="unreadable", result='"\\u0000 \\ud800 良"')
        ledger.append([odd])
        assert ledger.results("J0") == [odd]


def test_the_tables_can_be_made_in_both_databases() -> None:
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        for table in metadata.sorted_tables:
            made = str(CreateTable(table).compile(dialect=dialect))
            assert "number" in made and "UNIQUE" in made
            for index in table.indexes:
                assert str(CreateIndex(index).compile(dialect=dialect)).startswith("CREATE INDEX")
        assert all(
            any(table.name in statement for statement in guards(dialect.name)) for table in (results, reviews)
        )
    assert "TIMESTAMP WITH TIME ZONE" in str(CreateTable(results).compile(dialect=postgresql.dialect()))
    assert "GENERATED ALWAYS AS IDENTITY" in str(CreateTable(results).compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_that_make_the_tables_at_once_do_not_meet(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue("postgresql_url") if kind == "postgresql" else f"sqlite:///{tmp_path}/a.db"
    command = [sys.executable, "-m", "batchyard.audit", "--create"]
    environ = os.environ | {"BATCHYARD_AUDIT_URL": url}
    several = [subprocess.Popen(command, env=environ) for _ in range(3)]
    assert [process.wait(60) for process in several] == [0, 0, 0]
    fill(url)


def test_a_database_that_is_away_says_so_without_password_or_text(tmp_path: Path) -> None:
    url = f"postgresql://someone:hunter2@/audit?host={tmp_path}"
    with closing(open_ledger(url)) as ledger, pytest.raises(LedgerUnavailable) as caught:
        ledger.append(records(1))
    assert "hunter2" not in str(caught.value)
    assert "INSERT" not in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "postgresql://host", "sqlite://"])
def test_a_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig, match="names no database"):
        open_ledger(url)


def test_a_full_disk_or_a_lost_table_is_trouble_and_not_the_end(tmp_path: Path) -> None:
    file = tmp_path / "audit.db"
    with closing(open_ledger(f"sqlite:///{file}")) as ledger:
        ledger.prepare()
        with closing(sqlite3.connect(file)) as raw:
            raw.execute("DROP TABLE batchyard_results")
        with pytest.raises(LedgerUnavailable):
            ledger.append(records(2))
        ledger.prepare()
        ledger.append(records(2))
    assert len(everything(f"sqlite:///{file}")) == 2
