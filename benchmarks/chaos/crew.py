"""The yard's routers and workers as processes: started, started again when they have ended, hit, watched.

Each process has a name of its own, `w1-3` for the third process in the place of the second worker, which is
also the worker's name in the yard, so that what it did can be told from what its successor did.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.chaos.ledger import Ledger
from benchmarks.child import ROOT
from local.leash import leashed

WORKER, ROUTER = "worker", "router"
MODEL = "defect_detect"
DRAIN_SECONDS = 5
END_SECONDS = 45.0
"""A process that was told to end and has not after this long, hangs."""
_CHUNK_DONE = b" jobs: "
"""What a router logs behind every chunk."""
_UP = b" ready."
"""What Celery logs when a process begins to consume."""
_SIGN_MARGIN = 0.3
_LOG_BYTES = 200_000


@dataclass(slots=True)
class Child:
    """One process of the crew. `disturbed` is when something was last done to it, on the monotonic clock:
    what it did before does not show that it works. `engine_jobs` were in its engine when that was killed.
    """

    role: str
    place: int
    starts: int
    process: "subprocess.Popen[bytes]"
    log: Path
    log_begin: int
    disturbed: float
    log_at: int
    wake_at: float | None = None
    stopped_engines: list[int] = field(default_factory=list)
    told_to_end: float | None = None
    doomed: bool = False
    engine_jobs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Unlike any other's."""
        return f"{self.role[0]}{self.place}-{self.starts}"

    @property
    def alive(self) -> bool:
        """Running, and not stopped or told to end."""
        undisturbed = self.wake_at is None and self.told_to_end is None and not self.doomed
        return undisturbed and self.process.poll() is None

    def engines(self) -> list[int]:
        """Process ids of its children."""
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children()]
        except psutil.NoSuchProcess:
            return []


class Crew:
    """`workers` workers of one model and `routers` routers. `complaints` are what no fault explains."""

    def __init__(
        self,
        ledger: Ledger,
        environment: Mapping[str, str],
        folder: Path,
        workers: int,
        routers: int,
        slots: int,
    ) -> None:
        self._ledger = ledger
        self._environment = dict(environment)
        self._folder = folder
        self._slots = slots
        self.complaints: list[str] = []
        self.children = [self._start(ROUTER, place, 1) for place in range(routers)]
        self.children += [self._start(WORKER, place, 1) for place in range(workers)]

    def _start(self, role: str, place: int, starts: int) -> Child:
        log = self._folder / f"{role}-{place}.log"
        name = f"{role[0]}{place}-{starts}"
        arguments = ["router", "worker"] if role == ROUTER else self._worker_arguments(name)
        with log.open("ab") as output:
            output.write(f"--- {name}\n".encode())
            output.flush()
            log_at = output.tell()
            process = subprocess.Popen(
                leashed([sys.executable, "-m", *arguments], signal.SIGKILL),
                env=self._environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        return Child(role, place, starts, process, log, log_at, time.monotonic(), log_at)

    def _worker_arguments(self, name: str) -> list[str]:
        return [
            "benchmarks.chaos.flaky_worker", "--model", MODEL, "--gpu", "none", "--threads", "1",
            "--slots", str(self._slots), "--name", name, "--drain-seconds", str(DRAIN_SECONDS),
        ]  # fmt: skip

    # -- watched --------------------------------------------------------------------------------------

    def ready(self, child: Child) -> bool:
        """Whether it has done something since it was last disturbed."""
        if not child.alive:
            return False
        if child.role == WORKER:
            return self._ledger.sign_of(child.name) > child.disturbed + _SIGN_MARGIN
        return _CHUNK_DONE in _log_from(child, child.log_at)

    def targets(self, role: str) -> list[Child]:
        """Those of a role that may be hit: they work, and at least one other does."""
        there = [child for child in self.children if child.role == role and self.ready(child)]
        return there if len(there) > 1 else []

    def not_ready(self) -> list[str]:
        """Names of those that do not work."""
        return [child.name for child in self.children if not self.ready(child)]

    def disturb(self, child: Child) -> None:
        """What it did until now does not count."""
        child.disturbed = time.monotonic()
        child.log_at = child.log.stat().st_size

    def disturb_all(self) -> None:
        """Redis was away: what any of them did before does not count."""
        for child in self.children:
            self.disturb(child)

    # -- hit ------------------------------------------------------------------------------------------

    def kill(self, child: Child) -> None:
        """kill -9."""
        child.doomed = True
        child.process.kill()

    def kill_engine(self, child: Child) -> None:
        """kill -9 of its engine alone."""
        child.engine_jobs = self._ledger.started_by(child.name)
        for pid in child.engines():
            os.kill(pid, signal.SIGKILL)
        self.disturb(child)

    def stop(self, child: Child, seconds: float, whole: bool) -> None:
        """SIGSTOP for so many seconds, with its engine if `whole`."""
        child.wake_at = time.monotonic() + seconds
        child.process.send_signal(signal.SIGSTOP)
        child.stopped_engines = child.engines() if whole else []
        _signal_all(child.stopped_engines, signal.SIGSTOP)

    def terminate(self, child: Child) -> None:
        """SIGTERM."""
        child.told_to_end = time.monotonic()
        child.process.terminate()

    # -- kept up --------------------------------------------------------------------------------------

    def tend(self, now: float) -> None:
        """Wake those whose time has come, start those again that have ended, end those that hang."""
        for at, child in enumerate(self.children):
            if child.wake_at is not None and now >= child.wake_at:
                self._wake(child)
            if child.told_to_end is not None and now - child.told_to_end > END_SECONDS and not child.doomed:
                self.complaints.append(f"{child.name} had not ended {END_SECONDS:.0f} s after SIGTERM")
                self.kill(child)
            code = child.process.poll()
            if code is not None:
                self._complain_about_end(child, code)
                self.children[at] = self._start(child.role, child.place, child.starts + 1)

    def _wake(self, child: Child) -> None:
        _signal_all([*child.stopped_engines, child.process.pid], signal.SIGCONT)
        child.wake_at = None
        self.disturb(child)

    def _complain_about_end(self, child: Child, code: int) -> None:
        told = child.told_to_end is not None
        if child.doomed or (told and code == 0):
            return
        if told and code == -signal.SIGTERM and _UP not in _log_from(child, child.log_begin):
            return  # it had not come up: nothing of it knew of the signal
        when = "after SIGTERM" if told else "by itself"
        self.complaints.append(f"{child.name} ended {when} with status {code}, see {child.log}")

    def end(self) -> None:
        """SIGTERM to all, and wait; complain about those that do not end, or not with status 0."""
        for child in self.children:
            if child.wake_at is not None:
                self._wake(child)
            self.terminate(child)
        limit = time.monotonic() + END_SECONDS
        for child in self.children:
            try:
                code = child.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.complaints.append(f"{child.name} had not ended {END_SECONDS:.0f} s after SIGTERM")
                child.process.kill()
                child.process.wait()
            else:
                self._complain_about_end(child, code)

    def kill_all(self) -> None:
        """End what is left of them, without a word: the run has failed."""
        for child in self.children:
            _signal_all(child.stopped_engines, signal.SIGCONT)
            child.process.kill()
            child.process.wait()


def _log_from(child: Child, at: int) -> bytes:
    with child.log.open("rb") as log:
        log.seek(at)
        return log.read(_LOG_BYTES)


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def leftovers(url: str) -> list[str]:
    """Processes of the yard on `url` that still run, but Redis itself and this one."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            if process.pid != os.getpid() and process.environ().get("BATCHYARD_REDIS_URL") == url:
                found.append(f"{process.pid}: {' '.join(process.info['cmdline'] or [])[:200]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
