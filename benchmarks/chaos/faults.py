"""Which faults a run deals, in which order and when. Pure and seeded."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done, to whom."""

    WORKER_KILL = "kill -9 of a worker"
    ROUTER_KILL = "kill -9 of a router"
    ENGINE_KILL = "kill -9 of an engine"
    REDIS_KILL = "kill -9 of Redis, and restart"
    WORKER_STOP = "SIGSTOP of a worker, then SIGCONT"
    ROUTER_STOP = "SIGSTOP of a router, then SIGCONT"
    REDIS_STOP = "SIGSTOP of Redis, then SIGCONT"
    WORKER_TERM = "SIGTERM of a worker, and restart"
    ROUTER_TERM = "SIGTERM of a router, and restart"


_WEIGHTS: Mapping[Kind, int] = {  # in the order in which a short run has them
    Kind.WORKER_KILL: 26,
    Kind.ROUTER_KILL: 20,
    Kind.REDIS_KILL: 8,
    Kind.ENGINE_KILL: 10,
    Kind.WORKER_STOP: 10,
    Kind.WORKER_TERM: 7,
    Kind.ROUTER_TERM: 5,
    Kind.REDIS_STOP: 6,
    Kind.ROUTER_STOP: 8,
}
STOPS = (Kind.WORKER_STOP, Kind.ROUTER_STOP, Kind.REDIS_STOP)
_LONGEST_REDIS_DOWN = 2.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. It is due when `after` jobs are done; `target` (0 to 1) picks among those that may be hit;
    `seconds` is how long it stays stopped or down; `whole` stops a worker's engine with it."""

    number: int
    kind: Kind
    after: int
    target: float
    seconds: float
    whole: bool

    def pick(self, there: int) -> int:
        """The position of its target among so many."""
        return min(there - 1, int(self.target * there))


def plan(count: int, jobs: int, seed: int, lease: float) -> list[Fault]:
    """`count` faults spread over `jobs` jobs, in the order in which they are due; every kind is there if
    `count` has room for it. `lease` in seconds: stops are shorter or longer than it, half and half."""
    source = random.Random(f"faults {seed}")
    once = list(_WEIGHTS)[:count]
    kinds = once + source.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count - len(once))
    source.shuffle(kinds)
    return [
        Fault(
            number=number,
            kind=kind,
            after=int((number + source.random()) * jobs / count),
            target=source.random(),
            seconds=round(_seconds(kind, source, lease), 2),
            whole=source.random() < 0.5,
        )
        for number, kind in enumerate(kinds)
    ]


def _seconds(kind: Kind, source: random.Random, lease: float) -> float:
    if kind is Kind.REDIS_KILL:
        return source.uniform(0, _LONGEST_REDIS_DOWN)
    if kind not in STOPS:
        return 0.0
    return lease * (source.uniform(0.1, 0.7) if source.random() < 0.5 else source.uniform(1.3, 2.2))


def counts(faults: Sequence[Fault]) -> dict[str, int]:
    """How many there are of each kind."""
    return {str(kind): sum(fault.kind is kind for fault in faults) for kind in Kind}
