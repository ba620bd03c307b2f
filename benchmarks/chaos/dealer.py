"""The dealer: one fault after the other, each when it is due and there is somebody left to do the work."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.chaos.crew import ROUTER, WORKER, Child, Crew
from benchmarks.chaos.faults import Fault, Kind
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.orphans import Orphans
from benchmarks.chaos.own_redis import OwnRedis

LEAST_GAP = 0.4
AIM_SECONDS = 2.0
"""For so long the kill of a router waits for a moment in which a router has a chunk in hand."""
BLOCKED_SECONDS = 120.0

_ROLES = {
    Kind.WORKER_KILL: WORKER,
    Kind.WORKER_STOP: WORKER,
    Kind.WORKER_TERM: WORKER,
    Kind.ENGINE_KILL: WORKER,
    Kind.ROUTER_KILL: ROUTER,
    Kind.ROUTER_STOP: ROUTER,
    Kind.ROUTER_TERM: ROUTER,
}


class Stuck(Exception):
    """The yard does not come back to work, so that the run cannot go on."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """A fault that was dealt: to whom, and when on the monotonic clock."""

    fault: Fault
    target: str
    at: float


class Dealer:
    """Deals `faults` in order. `dealt` is what it has done."""

    def __init__(
        self, faults: Sequence[Fault], crew: Crew, server: OwnRedis, ledger: Ledger, orphans: Orphans
    ) -> None:
        self._left = deque(faults)
        self._crew = crew
        self._server = server
        self._ledger = ledger
        self._orphans = orphans
        self._due_since: float | None = None
        self.dealt: list[Dealt] = []

    @property
    def finished(self) -> bool:
        """Whether all faults are dealt."""
        return not self._left

    def tend(self, now: float) -> None:
        """Deal the next fault if it is due and may be.

        Raises:
            Stuck: it was due for minutes, and the yard does not work as it would have to.
        """
        if not self._left or self._left[0].after > self._ledger.done:
            return
        if self.dealt and now - self.dealt[-1].at < LEAST_GAP:
            return
        self._due_since = self._due_since or now
        fault = self._left[0]
        if fault.kind in _ROLES:
            dealt = self._hit(fault, _ROLES[fault.kind], now)
        else:
            dealt = self._hit_redis(fault, now)
        if dealt:
            self._left.popleft()
            self._due_since = None
        elif now - self._due_since > BLOCKED_SECONDS:
            idle = ", ".join(self._crew.not_ready()) or "none"
            raise Stuck(
                f"fault {fault.number} ({fault.kind}) waited {BLOCKED_SECONDS:.0f} s for the yard to work "
                f"again; at work were all but: {idle}"
            )

    def _hit_redis(self, fault: Fault, now: float) -> bool:
        if not self._server.steady:
            return False
        if fault.kind is Kind.REDIS_KILL:
            self._server.kill(now, fault.seconds)
        else:
            self._server.stop(now, fault.seconds)
        self.dealt.append(Dealt(fault, "redis", now))
        return True

    def _hit(self, fault: Fault, role: str, now: float) -> bool:
        there = self._crew.targets(role)
        if fault.kind is Kind.ENGINE_KILL:
            # Twice under the same job, alone in its engine, is what a job that kills engines looks like.
            there = [child for child in there if not self._ledger.any_open(child.engine_jobs)]
        if not there or (fault.kind is Kind.ROUTER_KILL and not self._aimed(now)):
            return False
        child = there[fault.pick(len(there))]
        self._do(fault, child)
        self.dealt.append(Dealt(fault, child.name, now))
        if fault.kind is Kind.ROUTER_KILL:
            self._orphans.killed(child.name, now)
        return True

    def _aimed(self, now: float) -> bool:
        if not self._server.steady:
            return False
        return bool(self._orphans.chunks()) or now - (self._due_since or now) > AIM_SECONDS

    def _do(self, fault: Fault, child: Child) -> None:
        if fault.kind in (Kind.WORKER_KILL, Kind.ROUTER_KILL):
            self._crew.kill(child)
        elif fault.kind in (Kind.WORKER_STOP, Kind.ROUTER_STOP):
            self._crew.stop(child, fault.seconds, fault.whole)
        elif fault.kind is Kind.ENGINE_KILL:
            self._crew.kill_engine(child)
        else:
            self._crew.terminate(child)
