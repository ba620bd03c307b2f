"""What is recorded: one final result of a job, and one review of it.

Knows neither Redis nor where it is kept. A job has one final result, or a further one for each time that an
operator opened it again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from batchyard import store
from batchyard.errors import InvalidConfig, UnknownJob, shown
from batchyard.jsonvalue import json_fault, printable
from batchyard.names import tenant_of
from batchyard.result import Result
from batchyard.states import State
from batchyard.wire import dumps

EXPIRED = "expired"
REPLACED = "replaced"
UNREADABLE = "unreadable"

MAX_WORDS = 10_000
"""Characters of a review's reason."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the stream: that a job ended, in which state. `id` is the entry's own. `document` is the
    task-meta document, where it travels in the entry itself."""

    id: str
    job_id: str
    batch: str
    state: str
    document: bytes | None = None


@dataclass(frozen=True, slots=True)
class FinalRecord:
    """One final result as it is kept, for good.

    `entry` and `job_id` together are unique. Names are full ones (`acme~J1`); empty: none, or not known.
    `attempt` is None where the result does not say it. `finished` is when the result was stored, by Redis's
    clock, `recorded` when it was written here. `result` is the JSON text of `batchyard.result.Result`. `gap`
    says why it is not the result: `expired` or `replaced` (null then), `unreadable` (a JSON string of what
    stood there).
    """

    entry: str
    job_id: str
    tenant: str
    batch: str
    state: str
    task: str
    model: str
    policy: str
    attempt: int | None
    error: str
    model_sha256: str
    prompt_sha256: str
    finished: datetime
    recorded: datetime
    gap: str | None
    result: str

    @property
    def verdict(self) -> str | None:
        """The answer as JSON text: the parsed document, else the choice, else the text; None without one."""
        result = json.loads(self.result)
        if self.gap is not None or not isinstance(result, dict):
            return None
        for name in ("parsed", "choice", "text"):
            if result.get(name) is not None:
                return dumps(result[name])
        return None


@dataclass(frozen=True, slots=True)
class Review:
    """One review of a job's result `entry`, the `sequence`-th of the job from 1. Verdicts are JSON text;
    `new_verdict` is None where the review leaves the verdict as it is."""

    job_id: str
    sequence: int
    entry: str
    at: datetime
    reviewer: str
    why: str
    old_verdict: str | None
    new_verdict: str | None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results an export takes: finished from `start` on and before `end`; None: no bound."""

    start: datetime | None = None
    end: datetime | None = None
    batch: str | None = None
    model: str | None = None

    def takes(self, record: FinalRecord) -> bool:
        """Whether `record` is one of them."""
        return (
            (self.start is None or record.finished >= self.start)
            and (self.end is None or record.finished < self.end)
            and (self.batch is None or record.batch == self.batch)
            and (self.model is None or record.model == self.model)
        )


# -- results ----------------------------------------------------------------------------------------


def record_of(entry: Entry, document: bytes | None, recorded: datetime) -> FinalRecord:
    """The record for an entry and the document that stood under its job's id when it was looked up.

    Never fails: what cannot be read is recorded as it is.
    """
    found = _result_in(entry, document)
    if isinstance(found, Result):
        # a success leaves out what is as usual; an error may not know its attempt
        attempt = found.attempt if found.ok or "attempt" in found.model_fields_set else None
        return _record(entry, recorded, None, found.model_dump_json(exclude_none=True), found, attempt)
    text = json.dumps((document or b"").decode("utf-8", "replace")) if found == UNREADABLE else "null"
    nothing = Result(job_id=entry.job_id, state=State.UNKNOWN)
    return _record(entry, recorded, found, text, nothing, None)


def _result_in(entry: Entry, document: bytes | None) -> Result | str:
    """The result in a document, or which gap there is instead."""
    if document is None:
        return EXPIRED
    try:
        meta = json.loads(document)
        if not isinstance(meta, dict):
            return UNREADABLE
        result = store.result_of(entry.job_id, meta)
        if result is not None:
            result.model_dump_json()  # a text may be none in UTF-8
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return UNREADABLE
    if result is not None and result.error is not None and result.error.code == store.UNREADABLE:
        return UNREADABLE
    if result is None or (entry.state and str(result.state) != entry.state):
        return REPLACED
    return result


def _record(
    entry: Entry, recorded: datetime, gap: str | None, text: str, result: Result, attempt: int | None
) -> FinalRecord:
    route, provenance, error = result.route, result.provenance, result.error
    return FinalRecord(
        entry=entry.id,
        job_id=_column(entry.job_id),
        tenant=_column(tenant_of(entry.job_id)),
        batch=_column(entry.batch),
        state=_column(entry.state or str(result.state)),
        task=_column(route.task if route else ""),
        model=_column(route.model if route else ""),
        policy=_column(route.policy if route else ""),
        attempt=attempt,
        error=_column(error.code if error else ""),
        model_sha256=_column(provenance.model_sha256 if provenance else ""),
        prompt_sha256=_column(provenance.prompt_sha256 if provenance else ""),
        finished=finished_at(entry.id),
        recorded=recorded,
        gap=gap,
        result=text,
    )


def _column(text: str) -> str:
    """Text that any database takes: no NUL, no half of a surrogate pair."""
    return printable(text)


def finished_at(entry_id: str) -> datetime:
    """When an entry was written, by Redis's clock: its id begins with milliseconds since the epoch."""
    return datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)


def now() -> datetime:
    """This moment to the millisecond: every ledger keeps as much."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def mark_of(entry_id: str) -> tuple[int, int]:
    """An entry's id as numbers, which order as the entries do."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


# -- reviews ----------------------------------------------------------------------------------------


def next_review(
    results: Sequence[FinalRecord], reviews: Sequence[Review], job_id: str, reviewer: str,
    why: str, verdict: str | None, at: datetime,
) -> Review:  # fmt: skip
    """The review that comes behind `reviews` of a job with these `results`, both in their order.

    Raises:
        UnknownJob: the job has no result on record.
    """
    if not results:
        raise no_record(job_id)
    sequence = reviews[-1].sequence + 1 if reviews else 1
    old = standing_verdict(results[-1], reviews)
    return Review(job_id, sequence, results[-1].entry, at, reviewer, why, old, verdict)


def standing_verdict(result: FinalRecord, reviews: Sequence[Review]) -> str | None:
    """What holds for a result now: what its last review that changed it says, else its own verdict."""
    changes = [review.new_verdict for review in reviews if review.entry == result.entry]
    said = [verdict for verdict in changes if verdict is not None]
    return said[-1] if said else result.verdict


def checked_words(text: str, field: str, longest: int) -> str:
    """What a reviewer wrote, without white space around it.

    Raises:
        InvalidConfig: it is empty, too long, or no text.
    """
    words = text.strip()
    if not words or len(words) > longest or _column(words) != words:
        raise InvalidConfig(
            f"1 to {longest:,} characters of text, got {shown(text)}",
            field=field,
            remedy="say who overrules it, and why",
        )
    return words


def checked_verdict(text: str) -> str:
    """A verdict that a reviewer gave as JSON, compact.

    Raises:
        InvalidConfig: it is no JSON, or null.
    """
    try:
        verdict = json.loads(text)
        if verdict is not None and json_fault(verdict, only_json=True) is None:
            return dumps(verdict)
    except (ValueError, RecursionError):
        pass
    raise InvalidConfig(
        f"no verdict in JSON: {shown(text)}",
        field="--verdict",
        remedy="""such as '{"verdict":"pass"}' or '"pass"'; leave it out to leave the verdict as it is""",
    )


def no_record(job_id: str) -> UnknownJob:
    """The error for a job that has no result on record."""
    return UnknownJob(
        f"no result of {shown(job_id)} is on record",
        code="not_recorded",
        field="JOB",
        remedy="check the id (a tenant's begins with its name and ~); does it have its result already?",
    )


# -- as JSON ----------------------------------------------------------------------------------------

_TIMES = frozenset({"finished", "recorded", "at"})
_JSON = frozenset({"result", "old_verdict", "new_verdict"})


def moment(time: datetime) -> str:
    """A time as it is written: UTC to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(record: FinalRecord | Review, **more: str) -> str:
    """A record as a JSON object on one line; `more` are further fields, as JSON text."""
    plain: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if each.name in _JSON and value is not None:
            texts[each.name] = value
        else:
            plain[each.name] = moment(value) if each.name in _TIMES else value
    return dumps(plain)[:-1] + "".join(f',"{name}":{text}' for name, text in (texts | more).items()) + "}"


def result_from(line: bytes) -> FinalRecord:
    """The record in a line that `as_json` made.

    Raises:
        ValueError: it is none.
    """
    return FinalRecord(**_values(line, FinalRecord))


def review_from(line: bytes) -> Review:
    """The review in a line that `as_json` made.

    Raises:
        ValueError: it is none.
    """
    return Review(**_values(line, Review))


def _values(line: bytes, kind: type[FinalRecord] | type[Review]) -> dict[str, Any]:
    data = json.loads(line)
    names = {each.name for each in fields(kind)}
    if not isinstance(data, dict) or not names <= data.keys():
        raise ValueError(f"no {kind.__name__}")
    values = {name: data[name] for name in names}
    for name in names & _TIMES:
        values[name] = datetime.fromisoformat(str(values[name]))
    for name in names & _JSON:
        if name == "result" or values[name] is not None:
            values[name] = dumps(values[name])
    return values
