"""The tables of the SQL ledger, and the triggers that refuse to change or take away a row.

Knows no connection but the one it is given.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    inspect,
    select,
)
from sqlalchemy.schema import CreateIndex, CreateTable


class UtcDateTime(TypeDecorator[datetime]):
    """A time: `timestamp with time zone`, or text in UTC where the database has no such type (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As the database takes it."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As we know it, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up by itself for INTEGER alone

metadata = MetaData()

results = Table(
    "batchyard_results",
    metadata,
    Column("number", _NUMBER, Identity(always=True), primary_key=True),
    Column("entry", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("batch", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("attempt", Integer),
    Column("error", Text, nullable=False),
    Column("model_sha256", Text, nullable=False),
    Column("prompt_sha256", Text, nullable=False),
    Column("finished", UtcDateTime, nullable=False),
    Column("recorded", UtcDateTime, nullable=False),
    Column("gap", Text),
    Column("result", Text, nullable=False),
    UniqueConstraint("job_id", "entry", name="batchyard_results_once"),
    Index("batchyard_results_finished", "finished", "number"),
    Index("batchyard_results_batch", "batch"),
    sqlite_autoincrement=True,
)

reviews = Table(
    "batchyard_reviews",
    metadata,
    Column("number", _NUMBER, Identity(always=True), primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("entry", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("old_verdict", Text),
    Column("new_verdict", Text),
    UniqueConstraint("job_id", "sequence", name="batchyard_reviews_once"),
    sqlite_autoincrement=True,
)

_KEYS = {results.name: ("job_id", "entry"), reviews.name: ("job_id", "sequence")}

_LOCK = 0x62617463
"""Of PostgreSQL's advisory locks, the one under which the tables are made; `batc` in ASCII."""


def guards(dialect: str) -> list[str]:
    """The statements that make the tables append-only in a database of this dialect."""
    return _sqlite_guards() if dialect == "sqlite" else _postgresql_guards()


def create_tables(connection: Connection) -> None:
    """Make tables and triggers where they are missing; may be done by several at once."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        if inspect(connection).has_table(reviews.name):  # all of it was made at once; others may not make any
            return
    for table in metadata.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
    for statement in guards(dialect):
        connection.exec_driver_sql(statement)


def _sqlite_guards() -> list[str]:
    statements = []
    for name, (job, key) in _KEYS.items():
        statements += [
            f"CREATE TRIGGER IF NOT EXISTS {name}_no_{change.lower()} BEFORE {change} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
            for change in ("UPDATE", "DELETE")
        ]
        # INSERT OR REPLACE takes the row away that stands in its way without a word to the trigger for DELETE
        statements += [
            f"CREATE TRIGGER IF NOT EXISTS {name}_no_replace BEFORE INSERT ON {name} WHEN EXISTS "  # noqa: S608  # names of ours
            f"(SELECT 1 FROM {name} WHERE {job} = NEW.{job} AND {key} = NEW.{key}) "
            f"BEGIN SELECT RAISE(IGNORE); END",
            f"CREATE TRIGGER IF NOT EXISTS {name}_no_renumber BEFORE INSERT ON {name} WHEN EXISTS "  # noqa: S608
            f"(SELECT 1 FROM {name} WHERE number = NEW.number) "
            f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END",
        ]
    return statements


def _postgresql_guards() -> list[str]:
    function = """
CREATE OR REPLACE FUNCTION batchyard_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$
"""
    return [function] + [
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION batchyard_append_only()"
        for name in _KEYS
    ]
