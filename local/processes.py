"""The supervisor: starts roles, starts a dead one again, and ends them all, in order.

One loop owns all of it; it wakes on signals and deadlines and holds no lock. Each child has a process
group of its own, so that Ctrl-C reaches the supervisor alone, and is on a leash (see leash.py), so that
none outlives a supervisor that was killed.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from local.leash import leashed
from local.roles import ROOT, Role
from local.state import RoleReport, StateDir

STABLE_SECONDS = 30.0
"""A process that lived this long did not die young; its next restart is at once."""
_TICK_SECONDS = 0.5
_READY_POLL_SECONDS = 0.05


def back_off(early_deaths: int) -> float:
    """Seconds to wait before a role is started again that died young so many times in a row."""
    return 0.0 if early_deaths == 0 else min(30.0, 0.25 * 2.0**early_deaths)


@dataclass(slots=True)
class _Child:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    starts: int = 0
    early_deaths: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def report(self) -> RoleReport:
        pid = self.process.pid if self.process is not None and self.alive else None
        return RoleReport(self.role.name, pid, max(0, self.starts - 1), self.early_deaths)


class Supervisor:
    """Keeps `roles` running. `changed` is called with their state after every start and death."""

    def __init__(
        self, roles: Sequence[Role], state: StateDir, changed: Callable[[str, tuple[RoleReport, ...]], None]
    ) -> None:
        self._children = [_Child(role) for role in roles]
        self._state = state
        self._changed = changed
        self._stop = False
        self._wake, self._wake_sender = os.pipe()

    def run(self) -> None:
        """Start everything, keep it running until SIGTERM or SIGINT, then end everything.

        Call from the main thread. Whatever happens, no child is left behind.
        """
        self._listen()
        try:
            while not self._stop:
                self._reap(time.monotonic())
                stage = self._stage()
                if self._start_due(time.monotonic(), stage):
                    self._tell("up")
                self._sleep(stage)
        finally:
            self.stop()

    def _listen(self) -> None:
        os.set_blocking(self._wake_sender, False)
        signal.set_wakeup_fd(self._wake_sender, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # only wakes the loop

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._stop = True

    def _sleep(self, stage: int) -> None:
        """Wait for a signal, for at most a tick (shorter while a stage is not ready)."""
        last = max(child.role.stage for child in self._children)
        readable, _, _ = select.select(
            [self._wake], [], [], _TICK_SECONDS if stage >= last else _READY_POLL_SECONDS
        )
        if readable:
            os.read(self._wake, 4096)

    def _stage(self) -> int:
        """The highest stage that may run now: those below it are alive and ready."""
        stage = 0
        for level in sorted({child.role.stage for child in self._children}):
            stage = level
            below = [child for child in self._children if child.role.stage == level]
            if not all(child.alive and (child.role.ready is None or child.role.ready()) for child in below):
                break
        return stage

    def _reap(self, now: float) -> None:
        """Notice the dead and decide when each is started again."""
        died = False
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            code, lived = child.process.returncode, now - child.started
            self._kill_group(child)  # what the dead one may have left
            child.process = None
            child.early_deaths = child.early_deaths + 1 if lived < STABLE_SECONDS else 0
            child.start_at = now + back_off(child.early_deaths)
            died = True
            print(f"{child.role.name} ended with code {code} after {lived:.1f} s", flush=True)
        if died:
            self._tell("up")

    def _start_due(self, now: float, stage: int) -> bool:
        due = [c for c in self._children if c.process is None and c.role.stage <= stage and c.start_at <= now]
        for child in due:
            self._start(child)
        return bool(due)

    def _start(self, child: _Child) -> None:
        role = child.role
        with self._state.log(role.name).open("ab") as log:
            child.process = subprocess.Popen(
                leashed(role.command, role.on_parent_death),
                cwd=ROOT,
                env=dict(role.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child.started, child.starts = time.monotonic(), child.starts + 1
        print(f"{role.name} runs as process {child.process.pid}", flush=True)

    def stop(self) -> None:
        """End all children: those of the last stage first, each asked to, and killed when its time is up."""
        self._tell("stopping")
        for stage in sorted({child.role.stage for child in self._children}, reverse=True):
            children = [child for child in self._children if child.role.stage == stage and child.process]
            for child in children:
                self._send(child, signal.SIGTERM)
            self._await(children)
            for child in children:
                self._kill_group(child)
        self._tell("stopping")

    def _await(self, children: Sequence[_Child]) -> None:
        now = time.monotonic()
        for child in children:
            if child.process is None:
                continue
            left = now + child.role.stop_seconds - time.monotonic()
            try:
                child.process.wait(max(0.0, left))
            except subprocess.TimeoutExpired:
                print(
                    f"{child.role.name} did not end within {child.role.stop_seconds:.0f} s; killed",
                    flush=True,
                )
                child.process.kill()
                child.process.wait()

    def _send(self, child: _Child, number: signal.Signals) -> None:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(number)

    def _kill_group(self, child: _Child) -> None:
        if child.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)

    def _tell(self, phase: str) -> None:
        self._changed(phase, tuple(child.report() for child in self._children))
