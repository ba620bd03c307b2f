import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from local.processes import back_off
from local.state import RoleReport, StateDir

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 30.0
Toy = tuple[str, list[str], int, float]

IDLE = [sys.executable, "-c", "import signal; print('idle', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, signal; print(subprocess.Popen(['sleep', '3600']).pid, flush=True); signal.pause()",
]


def eventually(what: Callable[[], bool]) -> None:
    """Wait until something is so; the limit only bounds a failure."""
    end = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


class Yard:
    """A supervisor in its own process, and what it reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = StateDir(folder / "state")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *roles: Toy, waiting: Sequence[Toy] = ()) -> None:
        """Start it, and wait until each of `roles` has said something."""
        (self.folder / "roles.json").write_text(json.dumps([*roles, *waiting]))
        script = str(Path(__file__).with_name("supervised.py"))
        self.process = subprocess.Popen(
            [sys.executable, script, str(self.state.path), str(self.folder / "roles.json")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        eventually(lambda: all(self.said(role[0]) for role in roles))

    def said(self, role: str) -> str:
        return self.state.log_tail(role, 1)

    def role(self, name: str) -> RoleReport:
        report = self.state.read_report()
        assert report is not None
        return next(role for role in report.roles if role.name == name)

    def child(self, name: str) -> psutil.Process:
        eventually(lambda: self.role(name).pid is not None)
        return psutil.Process(self.role(name).pid)

    def signal(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def all_gone(processes: list[psutil.Process]) -> bool:
    _gone, alive = psutil.wait_procs(processes, timeout=LIMIT)
    return not alive


def test_sigterm_ends_every_child(yard: Yard) -> None:
    yard.state.prepare()
    (yard.state.path / "a.ready").touch()
    yard.start(("a", IDLE, 0, 10.0), ("b", IDLE, 1, 10.0))
    children = [yard.child("a"), yard.child("b")]
    assert yard.signal(signal.SIGTERM) == 0
    assert all_gone(children)


def test_kill_9_of_the_supervisor_leaves_no_child(yard: Yard) -> None:
    yard.start(("a", IDLE, 0, 10.0), ("deaf", STUBBORN, 0, 10.0))
    children = [yard.child("a"), yard.child("deaf")]
    yard.signal(signal.SIGKILL)
    assert all_gone(children)


def test_a_dead_role_is_started_again_and_counted(yard: Yard) -> None:
    yard.start(("a", IDLE, 0, 10.0))
    first = yard.child("a")
    first.kill()
    eventually(lambda: yard.role("a").restarts == 1)
    assert yard.child("a").pid != first.pid
    assert yard.role("a").early_deaths == 1


def test_what_a_dead_role_leaves_is_ended_too(yard: Yard) -> None:
    yard.start(("parent", PARENT, 0, 10.0))
    grandchild = psutil.Process(int(yard.said("parent")))
    yard.child("parent").kill()
    assert all_gone([grandchild])


def test_a_role_that_ignores_sigterm_is_killed_when_its_time_is_up(yard: Yard) -> None:
    yard.start(("deaf", STUBBORN, 0, 0.2))
    child = yard.child("deaf")
    assert yard.signal(signal.SIGTERM) == 0
    assert all_gone([child])


def test_a_role_waits_until_the_stage_below_is_ready(yard: Yard) -> None:
    yard.start(("below", IDLE, 0, 10.0), waiting=[("above", IDLE, 1, 10.0)])
    yard.child("below").kill()
    eventually(lambda: yard.role("below").restarts == 1)  # the loop went round meanwhile
    assert yard.role("above").pid is None
    (yard.state.path / "below.ready").touch()
    assert yard.child("above").is_running()


def test_back_off_grows_to_a_bound() -> None:
    waits = [back_off(deaths) for deaths in range(12)]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert waits[-1] == 30.0
