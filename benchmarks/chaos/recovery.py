"""How long killed workers' and routers' jobs stood still, from what was seen of them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchyard.states import State
from benchmarks.chaos.ledger import Record, Seen
from benchmarks.percentiles import percentile


@dataclass(frozen=True, slots=True)
class Recovery:
    """One job that was in a killed process: seconds from the kill until it was started again by another
    worker (or had its result), or, from a router, until it was routed. `disturbed` if Redis was killed or
    stopped meanwhile."""

    job: str
    victim: str
    seconds: float
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when Redis was not to be reached, on the monotonic clock."""

    begin: float
    end: float


def worker_recoveries(
    kills: Mapping[str, float], records: Iterable[Record], outages: Sequence[Span]
) -> list[Recovery]:
    """Of the jobs whose worker was killed (`kills`: its name, unlike any other's, and when).

    A job was in it if it was seen as started by it and by nothing later before the kill; one that it had
    finished, or that was cancelled meanwhile, is none.
    """
    found = []
    for record in records:
        for one, after in zip(record.seen, record.seen[1:], strict=False):
            at = kills.get(one.worker) if one.state == State.STARTED else None
            if at is None or after.at <= at or _needs_none(one, after):
                continue
            found.append(
                Recovery(record.piece.id, one.worker, after.at - at, disturbed(at, after.at, outages))
            )
    return found


def _needs_none(one: Seen, after: Seen) -> bool:
    return after.worker == one.worker or after.state in (State.REVOKED, State.RETRY)


def router_recoveries(
    orphans: Mapping[str, tuple[str, float]], records: Iterable[Record], outages: Sequence[Span]
) -> list[Recovery]:
    """Of the jobs of chunks that killed routers left; `orphans`: job to its router and when it was killed."""
    found = []
    for record in records:
        victim, at = orphans.get(record.piece.id, ("", 0.0))
        routed = next((seen for seen in record.seen if seen.state != State.QUEUED), None)
        if not victim or routed is None or routed.at <= at or routed.state == State.REVOKED:
            continue
        found.append(Recovery(record.piece.id, victim, routed.at - at, disturbed(at, routed.at, outages)))
    return found


def disturbed(begin: float, end: float, outages: Sequence[Span]) -> bool:
    """Whether Redis was away at any time in between."""
    return any(outage.begin < end and begin < outage.end for outage in outages)


def summary(recoveries: Sequence[Recovery]) -> dict[str, float]:
    """How many there are, and their distribution in seconds."""
    seconds = [one.seconds for one in recoveries]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {"jobs": len(seconds)} | {name: percentile(seconds, share) for name, share in shares.items()}
