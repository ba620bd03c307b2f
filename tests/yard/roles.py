"""Routers and workers as processes of one test, each with its log and its own cable to Redis."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from batchyard.settings import Settings
from tests.yard.cut import Cable

ROOT = Path(__file__).resolve().parents[2]
READY = " ready."
"""What Celery logs when it consumes."""
LIMIT_SECONDS = 90.0
TIMEOUT_SECONDS = 1.5
"""`redis_timeout` of every role, so that all policies are short."""
LEASE_SECONDS = 2.0


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a condition that another process brings about."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not true():
        assert time.monotonic() < limit, f"waited {LIMIT_SECONDS:.0f} s for {what}"
        time.sleep(0.02)


def cabled(cable: Cable) -> Settings:
    """Settings of a client at the end of a cable."""
    return Settings(redis_url=cable.url, redis_timeout=TIMEOUT_SECONDS)


@dataclass
class Role:
    """A process of the yard."""

    cable: Cable
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """All it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def says(self, words: str, times: int = 1) -> None:
        """Wait until its log has these words."""
        until(lambda: self.text().count(words) >= times or not self.alive, f"{words!r} in {self.log.name}")
        assert self.text().count(words) >= times, self.text()[-4000:]

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def engine(self) -> psutil.Process:
        """The engine of a worker."""
        [child] = psutil.Process(self.process.pid).children()
        return child

    def ends(self, *signals: signal.Signals) -> int:
        """Send it these signals and wait for its end; returns its exit status."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)


@dataclass
class Roles:
    """What was started, so that all of it can be ended."""

    folder: Path
    url: str
    roles: list[Role] = field(default_factory=list)
    cables: list[Cable] = field(default_factory=list)

    def cable(self) -> Cable:
        """A cable to Redis."""
        self.cables.append(Cable(self.url))
        return self.cables[-1]

    def move(self, port: int) -> None:
        """Redis is at another port now."""
        for cable in self.cables:
            cable.target = port

    def worker(self, cable: Cable | None = None, *, slots: int = 4, drain: float = 30.0) -> Role:
        """A worker of the model `defect_detect`; not ready yet."""
        name = f"w{len(self.roles)}"
        return self._start(
            name, "workers", "--model", "defect_detect", "--name", name, "--gpu", "none", "--threads", "1",
            "--slots", str(slots), "--drain-seconds", str(drain), cable=cable,
        )  # fmt: skip

    def router(self, cable: Cable | None = None) -> Role:
        """A router; not ready yet."""
        return self._start(f"r{len(self.roles)}", "router", "worker", cable=cable)

    def _start(self, name: str, module: str, *arguments: str, cable: Cable | None = None) -> Role:
        cable, log = cable or self.cable(), self.folder / f"{name}.log"
        environ = os.environ | {
            "BATCHYARD_REDIS_URL": cable.url,
            "BATCHYARD_REDIS_TIMEOUT": str(TIMEOUT_SECONDS),
            "BATCHYARD_LEASE_SECONDS": str(LEASE_SECONDS),
            "OMP_NUM_THREADS": "1",
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.roles.append(Role(cable, process, log))
        return self.roles[-1]

    def end(self) -> None:
        """Kill what still runs, and take the cables out."""
        for role in self.roles:
            if role.alive:
                children: Sequence[psutil.Process] = psutil.Process(role.process.pid).children()
                role.process.kill()
                role.process.wait()
                for child in children:
                    child.kill()
        for cable in self.cables:
            cable.__exit__(None, None, None)
