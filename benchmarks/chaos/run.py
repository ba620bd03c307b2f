"""A run from start to verdict: the yard is started, made ready, hit while it works, drained, and judged."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from batchyard import Client
from batchyard.settings import Settings
from benchmarks.chaos.crew import Crew, leftovers
from benchmarks.chaos.dealer import Dealer, Dealt, Stuck
from benchmarks.chaos.ending import read_ending
from benchmarks.chaos.faults import Kind, plan
from benchmarks.chaos.flaky_worker import FOLDER_VARIABLE
from benchmarks.chaos.ledger import Ledger, Record
from benchmarks.chaos.orphans import Orphans
from benchmarks.chaos.own_redis import OwnRedis
from benchmarks.chaos.pieces import Reference, certain, pieces, reference_jobs
from benchmarks.chaos.recovery import Recovery, Span, router_recoveries, worker_recoveries
from benchmarks.chaos.reruns import Rerun, reruns
from benchmarks.chaos.submit import Submitter
from benchmarks.chaos.verdict import LOST, PROCESS, Violation, judge
from benchmarks.chaos.watch import Watcher, impatient
from benchmarks.child import ROOT

TICK_SECONDS = 0.005
START_SECONDS = 180.0
DRAIN_SECONDS = 120.0
TELL_SECONDS = 30.0
QUIET_SECONDS = 90.0
"""If nothing ends for this long although jobs are open, the yard has come to a stop."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is made. `lease` is the yard's lease_seconds, `at_most` the seconds after which no more
    faults are dealt; `folder` takes logs and Redis's files."""

    faults: int
    jobs: int
    seed: int
    workers: int
    routers: int
    slots: int
    window: int
    lease: float
    at_most: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run. `seconds` from the first fault-free job to the last; `repeated` submissions."""

    dealt: list[Dealt]
    began: float
    seconds: float
    records: list[Record]
    violations: list[Violation]
    workers: list[Recovery]
    routers: list[Recovery]
    reruns: list[Rerun]
    outages: list[Span]
    repeated: int
    redis: Mapping[str, str]


class Run:
    """One run; `go` once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._server = OwnRedis(options.folder)
        self._flaky = options.folder / "flaky"
        self._flaky.mkdir()
        self._settings = Settings(
            redis_url=self._server.url,
            models=ROOT / "configs/models.yaml",
            routing=ROOT / "configs/routing.yaml",
            hardware=ROOT / "configs/hardware.yaml",
            lease_seconds=options.lease,
        )
        self._ledger = Ledger()
        self._watcher = Watcher(self._server.url, self._ledger)
        self._redis_up = True

    def go(self) -> Outcome:
        """Make the run.

        Raises:
            YardUnavailable: the yard did not come up.
        """
        with ExitStack() as stack:
            stack.callback(self._server.end)
            self._server.await_up()
            crew = Crew(
                self._ledger, self._environment(), self._options.folder,
                self._options.workers, self._options.routers, self._options.slots,
            )  # fmt: skip
            stack.callback(crew.kill_all)
            references = self._references(crew)
            self._watcher.start()
            stack.callback(self._watcher.stop)
            submitter = Submitter(
                self._settings, self._ledger, pieces(self._options.seed, references),
                self._options.window, self._options.seed,
            )  # fmt: skip
            orphans = Orphans(impatient(self._server.url))
            faults = plan(self._options.faults, self._options.jobs, self._options.seed, self._options.lease)
            dealer = Dealer(faults, crew, self._server, self._ledger, orphans)
            submitter.start()
            began = time.monotonic()
            stuck = self._work(crew, dealer, orphans, submitter)
            seconds = time.monotonic() - began
            return self._end(crew, dealer, orphans, submitter, began, seconds, stuck)

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "BATCHYARD_REDIS_URL": self._server.url,
            "BATCHYARD_MODELS": str(self._settings.models),
            "BATCHYARD_ROUTING": str(self._settings.routing),
            "BATCHYARD_HARDWARE": str(self._settings.hardware),
            "BATCHYARD_LEASE_SECONDS": f"{self._settings.lease_seconds:g}",
            "PYTHONUNBUFFERED": "1",
            FOLDER_VARIABLE: str(self._flaky),
        }

    def _references(self, crew: Crew) -> list[Reference]:
        """What the yard answers while nothing disturbs it; these jobs are none of the run's."""
        with Client(self._settings) as client:
            jobs = reference_jobs()
            texts = {str(number): job["prompt"] for number, job in enumerate(jobs)}
            batch = client.submit_many(
                job | {"metadata": {"number": str(number)}} for number, job in enumerate(jobs)
            ).batch
            answers = list(client.results(batch, timeout=START_SECONDS))
        found = [
            certain(texts[str(answer.metadata["number"])], answer.choice_probabilities)
            for answer in answers
            if answer.choice_probabilities is not None
        ]
        crew.disturb_all()
        return [reference for reference in found if reference is not None]

    def _work(self, crew: Crew, dealer: Dealer, orphans: Orphans, submitter: Submitter) -> str | None:
        """Faults while the jobs go on, then wait until all have ended; why it could not, or None."""
        try:
            self._deal(crew, dealer, orphans, submitter)
            self._drain(crew, orphans, submitter)
        except Stuck as exc:
            return str(exc)
        return None

    def _deal(self, crew: Crew, dealer: Dealer, orphans: Orphans, submitter: Submitter) -> None:
        began = told = time.monotonic()
        while not (dealer.finished and self._ledger.done >= self._options.jobs):
            self._tick(crew, orphans)
            dealer.tend(now := time.monotonic())
            for thread in (submitter, self._watcher):
                if thread.failure is not None:
                    raise Stuck(f"{type(thread).__name__} failed: {thread.failure!r}")
            if now - told > TELL_SECONDS:
                told, so_far = now, f"{self._ledger.done} jobs done, {len(dealer.dealt)} faults dealt"
                print(f"{now - began:.0f} s: {so_far}", file=sys.stderr, flush=True)
            if now - began > self._options.at_most:
                return

    def _drain(self, crew: Crew, orphans: Orphans, submitter: Submitter) -> None:
        limit = time.monotonic() + DRAIN_SECONDS
        while not submitter.stop(timeout=0.0) or self._ledger.open_count():
            self._tick(crew, orphans)
            if time.monotonic() > limit:
                left = self._ledger.open_count()
                raise Stuck(f"{left} jobs had not ended {DRAIN_SECONDS:.0f} s after the last was submitted")

    def _tick(self, crew: Crew, orphans: Orphans) -> None:
        now = time.monotonic()
        up = self._server.tend(now)
        if up and not self._redis_up:
            crew.disturb_all()
        self._redis_up = up
        crew.tend(now)
        orphans.tend(now)
        if self._ledger.quiet_for() > QUIET_SECONDS:
            raise Stuck(
                f"no job has ended for {QUIET_SECONDS:.0f} s, and {self._ledger.open_count()} are open"
            )
        time.sleep(TICK_SECONDS)

    def _end(
        self, crew: Crew, dealer: Dealer, orphans: Orphans, submitter: Submitter, began: float,
        seconds: float, stuck: str | None,
    ) -> Outcome:  # fmt: skip
        while not self._server.tend(time.monotonic()):
            time.sleep(TICK_SECONDS)
        records = list(self._ledger.records())
        with impatient(self._server.url) as client:
            info = client.info("persistence")
            ending = read_ending(client, records, patience=3 * self._options.lease + 5)
        self._watcher.stop()
        crew.end()
        violations = judge(records, self._ledger.entries, ending)
        complaints = crew.complaints + ([] if stuck is None else [stuck])
        violations += [Violation(PROCESS, "", complaint) for complaint in complaints]
        violations += [Violation(PROCESS, "", f"still runs: {left}") for left in leftovers(self._server.url)]
        if not records:
            violations.append(Violation(LOST, "", "no job was submitted"))
        kills = {one.target: one.at for one in dealer.dealt if one.fault.kind is Kind.WORKER_KILL}
        return Outcome(
            dealt=dealer.dealt,
            began=began,
            seconds=seconds,
            records=records,
            violations=violations,
            workers=worker_recoveries(kills, records, self._server.outages),
            routers=router_recoveries(orphans.jobs, records, self._server.outages),
            reruns=reruns(records, dealer.dealt, self._server.outages, self._options.lease),
            outages=self._server.outages,
            repeated=submitter.again,
            redis={key: str(info[key]) for key in ("aof_delayed_fsync", "aof_current_size") if key in info},
        )
