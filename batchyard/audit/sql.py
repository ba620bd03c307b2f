"""The ledger in SQL: a SQLite file, or PostgreSQL. Several auditors may write into one at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, Row, Select, Table, and_, create_engine, event, or_, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from batchyard.audit.ledger import URL as SETTING
from batchyard.audit.ledger import LedgerUnavailable
from batchyard.audit.record import FinalRecord, Review, Selection
from batchyard.audit.tables import create_tables, results, reviews
from batchyard.errors import InvalidConfig

_POSTGRESQL: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""So that a server that went away without a word is noticed within half a minute."""

_RESULT_FIELDS = [field.name for field in fields(FinalRecord)]
_REVIEW_FIELDS = [field.name for field in fields(Review)]
_IDS_AT_ONCE = 500


class SqlLedger:
    """A `Ledger` in the database at `url` (`sqlite:///FILE` or `postgresql://…`)."""

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._insert = sqlite_insert if self._sqlite else postgresql_insert
        self._engine = _engine(self._url)

    def prepare(self) -> None:
        """Make file, tables and triggers where they are missing."""
        with self._asking():
            if self._sqlite:
                path = Path(self._url.database or "")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)  # answers are the customer's text
            with self._engine.begin() as connection:
                create_tables(connection)

    def append(self, records: Sequence[FinalRecord]) -> None:
        """Record results in one transaction."""
        statement = self._insert(results).on_conflict_do_nothing()
        rows = [{name: getattr(record, name) for name in _RESULT_FIELDS} for record in records]
        with self._asking(), self._engine.begin() as connection:
            connection.execute(statement, rows)

    def add_review(self, review: Review) -> bool:
        """Record a review, unless its number is taken."""
        statement = self._insert(reviews).on_conflict_do_nothing()
        row = {name: getattr(review, name) for name in _REVIEW_FIELDS}
        with self._reading(), self._engine.begin() as connection:
            done = connection.execute(statement, row, execution_options={"preserve_rowcount": True})
            return done.rowcount == 1

    def results(self, job_id: str) -> list[FinalRecord]:
        """The results of a job."""
        query = _columns(results, _RESULT_FIELDS).where(results.c.job_id == job_id)
        return [_record(row) for row in self._rows(query.order_by(results.c.finished, results.c.number))]

    def reviews(self, job_ids: Sequence[str]) -> list[Review]:
        """The reviews of jobs."""
        found: list[Review] = []
        for at in range(0, len(job_ids), _IDS_AT_ONCE):
            some = reviews.c.job_id.in_(job_ids[at : at + _IDS_AT_ONCE])
            query = _columns(reviews, _REVIEW_FIELDS).where(some)
            rows = self._rows(query.order_by(reviews.c.job_id, reviews.c.sequence))
            found += [Review(**row._mapping) for row in rows]
        return found

    def export(self, selection: Selection, page: int = 500) -> Iterator[list[FinalRecord]]:
        """The results that a selection takes, in the order in which they finished."""
        wanted = [
            column == value
            for column, value in ((results.c.batch, selection.batch), (results.c.model, selection.model))
            if value is not None
        ]
        if selection.end is not None:
            wanted.append(results.c.finished < selection.end)
        if selection.start is not None:
            wanted.append(results.c.finished >= selection.start)
        query = _columns(results, [*_RESULT_FIELDS, "number"]).where(*wanted).limit(page)
        query = query.order_by(results.c.finished, results.c.number)
        rows = self._rows(query)
        while rows:
            yield [_record(row) for row in rows]
            finished, number = rows[-1].finished, rows[-1].number
            later = and_(
                results.c.finished >= finished,
                or_(results.c.finished > finished, results.c.number > number),
            )
            rows = self._rows(query.where(later))

    def last(self) -> FinalRecord | None:
        """The result with the highest number."""
        rows = self._rows(_columns(results, _RESULT_FIELDS).order_by(results.c.number.desc()).limit(1))
        return _record(rows[0]) if rows else None

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._reading(), self._engine.connect() as connection:
            return connection.execute(query).all()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """For what looks at a ledger that an auditor made: it must be there."""
        if self._sqlite and not Path(self._url.database or "").is_file():
            raise _nothing_there(self._url)
        try:
            with self._asking():
                yield
        except LedgerUnavailable as exc:
            if _no_table(exc.__cause__):
                raise _nothing_there(self._url) from exc.__cause__
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as exc:  # its own text would repeat the statement, and the customer's text in it
            raise _unavailable(self._url, str(exc.orig)) from exc
        except (SQLAlchemyError, OSError) as exc:
            raise _unavailable(self._url, str(exc)) from exc


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or not parsed.database or parsed.database == ":memory:":
        raise InvalidConfig(
            "names no database",
            field=SETTING,
            remedy="such as sqlite:///state/audit.db or postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, connect_args=_POSTGRESQL)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")  # who reads does not hold up who writes
        cursor.execute("PRAGMA synchronous = FULL")  # a commit is on disk
        cursor.close()

    return engine


def _columns(table: Table, names: Sequence[str]) -> Select[Any]:
    return select(*(table.c[name] for name in names))


def _record(row: Row[Any]) -> FinalRecord:
    return FinalRecord(**{name: row._mapping[name] for name in _RESULT_FIELDS})


def _no_table(exc: BaseException | None) -> bool:
    text = str(exc.orig) if isinstance(exc, DBAPIError) else ""
    return "no such table" in text or ("batchyard_" in text and "does not exist" in text)


def _nothing_there(url: URL) -> InvalidConfig:
    return InvalidConfig(
        f"no results are on record in {url.render_as_string(hide_password=True)}",
        code="no_ledger",
        field=SETTING,
        remedy="start the auditor there: python -m batchyard.audit",
    )


def _unavailable(url: URL, text: str) -> LedgerUnavailable:
    place = url.render_as_string(hide_password=True)
    return LedgerUnavailable(
        f"{place}: {' '.join(text.split())}",
        field=SETTING,
        remedy="see to the database; Redis keeps the rest",
    )
