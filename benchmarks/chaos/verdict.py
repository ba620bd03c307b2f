"""The verdict: every job that was handed over has one visible end and the right answer, and nothing is left.

Pure: from the ledger's records and what stands in Redis at the end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.chaos.documents import Document
from benchmarks.chaos.ledger import Record

LOST, DUPLICATED, WRONG, FAILED = "lost", "duplicated", "wrong", "failed"
COUNTERS, LEFT_OVER, PROCESS, ROLLED_BACK = "counters", "left over", "process", "rolled back by Redis"
KINDS = (LOST, DUPLICATED, WRONG, FAILED, COUNTERS, LEFT_OVER, PROCESS, ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. `job` is empty where it is no job's."""

    kind: str
    job: str
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """What stands in Redis at the end: each job's document, each batch's completion stream (entry's id, job)
    and counters, and the keys that should hold nothing, with what they hold."""

    documents: Mapping[str, Document | None]
    streams: Mapping[str, Sequence[tuple[str, str]]]
    counters: Mapping[str, Mapping[str, int]]
    left: Mapping[str, str]


def judge(
    records: Sequence[Record], seen: Mapping[str, Mapping[str, str]], ending: Ending
) -> list[Violation]:
    """All violations. `seen` are the entries that were read from completion streams while the run went on, as
    in `Ledger.entries`."""
    entries = Counter(job for stream in ending.streams.values() for _, job in stream)
    found = [violation for record in records for violation in _of_job(record, ending, entries)]
    known = {record.piece.id for record in records}
    found += [
        Violation(DUPLICATED, job, "is in a completion stream and was never submitted")
        for job in entries
        if job not in known
    ]
    found += _of_counters(records, ending.counters)
    for batch, before in seen.items():
        there = {entry for entry, _ in ending.streams.get(batch, ())}
        found += [
            Violation(ROLLED_BACK, job, f"entry {entry} of {batch} was read once and is gone")
            for entry, job in before.items()
            if entry not in there
        ]
    found += [Violation(LEFT_OVER, "", f"{key}: {what}") for key, what in ending.left.items()]
    return found


def _of_job(record: Record, ending: Ending, entries: Mapping[str, int]) -> Iterator[Violation]:
    job = record.piece.id
    document = ending.documents.get(job)
    if record.accepted is None:
        yield Violation(LOST, job, "its submission was never confirmed")
    if document is None or not document.final:
        yield Violation(LOST, job, f"has no result: {document.state if document else 'no document'}")
        return
    times = entries.get(job, 0)
    if times == 0:
        yield Violation(LOST, job, "has a result and is not in its batch's completion stream")
    if times > 1:
        yield Violation(DUPLICATED, job, f"is {times} times in completion streams")
    if record.announced > 1:
        yield Violation(DUPLICATED, job, f"its end was announced {record.announced} times")
    if record.others or (record.final is not None and record.final.digest != document.digest):
        yield Violation(DUPLICATED, job, f"had another result before: {record.others or record.final}")
    if record.fault is not None:
        yield Violation(WRONG, job, record.fault)
    if document.state == "FAILURE" or (document.state == "REVOKED" and not record.cancelled):
        yield Violation(FAILED, job, f"{document.state}: {document.result}"[:500])


def _of_counters(records: Iterable[Record], counters: Mapping[str, Mapping[str, int]]) -> Iterator[Violation]:
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        expected[record.piece.batch]["total"] += 1
        if record.final is not None:
            expected[record.piece.batch][record.final.state] += 1
    for batch, want in expected.items():
        have = {
            name: counters.get(batch, {}).get(name, 0) for name in ("total", "SUCCESS", "FAILURE", "REVOKED")
        }
        if any(have[name] != want[name] for name in have):
            yield Violation(COUNTERS, "", f"{batch} says {have}, and has {dict(want)}")


def tally(violations: Iterable[Violation]) -> dict[str, int]:
    """How many there are of each kind; a job counts once a kind."""
    found = {(violation.kind, violation.job or violation.text) for violation in violations}
    return {kind: sum(one == kind for one, _ in found) for kind in KINDS}
