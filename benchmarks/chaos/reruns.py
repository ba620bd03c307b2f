"""Jobs that were run a second time elsewhere although nobody had taken their worker from them. Pure.

No answer is doubled by it, but its work is: a yard that does this to long jobs does not finish them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchyard.states import State
from benchmarks.chaos.dealer import Dealt
from benchmarks.chaos.faults import Kind
from benchmarks.chaos.ledger import Record
from benchmarks.chaos.pieces import FLAKY
from benchmarks.chaos.recovery import Span, disturbed

_RENEWED_AFTER = 0.25
"""Of a lease: so long before a stop its last renewal may have been."""
_SINCE = 2.0
"""Leases that a worker may need, from when Redis is back, until it has renewed what it holds."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """One job: by whom it was started first and then; `disturbed` if Redis had been away shortly before."""

    job: str
    first: str
    then: str
    at: float
    disturbed: bool


def reruns(
    records: Iterable[Record], dealt: Sequence[Dealt], outages: Sequence[Span], lease: float
) -> list[Rerun]:
    """All of them. A worker that was killed, told to end, or stopped for longer than a lease has lost its
    jobs, and may be the first to end them when it goes on; a job that is made to fail at first is started
    twice by right."""
    found = []
    for record in records:
        if record.piece.kind == FLAKY:
            continue
        known = {""}
        for one, after in zip(record.seen, record.seen[1:], strict=False):
            known.add(one.worker)
            other = after.worker not in known
            if one.state == State.STARTED and other and not _taken(one.worker, after.at, dealt, lease):
                near = disturbed(after.at - _SINCE * lease, after.at, outages)
                found.append(Rerun(record.piece.id, one.worker, after.worker, after.at, near))
    return found


def _taken(worker: str, at: float, dealt: Sequence[Dealt], lease: float) -> bool:
    return any(
        one.target == worker
        and one.at < at
        and one.fault.kind is not Kind.ENGINE_KILL
        and (one.fault.kind is not Kind.WORKER_STOP or one.fault.seconds > lease * (1 - _RENEWED_AFTER))
        for one in dealt
    )
