"""The run's Redis: with an append-only file; killed, stopped and started again on the same port and file."""

import signal
import subprocess
import time
from pathlib import Path

from batchyard.errors import YardUnavailable
from benchmarks.chaos.recovery import Span
from local.leash import leashed
from local.redis_server import START_SECONDS, answers, free_ports, redis_command, redis_url

PASSWORD = "chaos"


class OwnRedis:
    """A server in `folder`. `outages` are the spans in which it was not to be reached."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.url = redis_url(port, PASSWORD)
        self._command = redis_command(folder, port, append_only=True, password=PASSWORD)
        self._log = folder / "redis.log"
        self._process = self._start()
        self._back_at: float | None = None
        self._down_since: float | None = time.monotonic()
        self._stopped = False
        self.outages: list[Span] = []

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                leashed(self._command, signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_up(self) -> None:
        """Wait until it answers for the first time.

        Raises:
            YardUnavailable: it does not.
        """
        limit = time.monotonic() + START_SECONDS
        while not self.tend(time.monotonic()):
            if time.monotonic() > limit:
                raise YardUnavailable(f"redis-server did not come up, see {self._log}")
            time.sleep(0.02)
        self.outages.clear()

    @property
    def pid(self) -> int:
        """Process id of the server that runs now."""
        return self._process.pid

    @property
    def steady(self) -> bool:
        """Whether it is up, and has been for a second."""
        if self._down_since is not None:
            return False
        return not self.outages or time.monotonic() - self.outages[-1].end > 1.0

    def kill(self, now: float, seconds: float) -> None:
        """End it at once; it is started again after so many seconds."""
        self._process.kill()
        self._process.wait()
        self._down_since, self._back_at, self._stopped = now, now + seconds, False

    def stop(self, now: float, seconds: float) -> None:
        """Stop it (SIGSTOP) for so many seconds."""
        self._process.send_signal(signal.SIGSTOP)
        self._down_since, self._back_at, self._stopped = now, now + seconds, True

    def tend(self, now: float) -> bool:
        """Bring it back when its time has come; whether it is up."""
        if self._down_since is None:
            return True
        if self._back_at is not None:
            if now < self._back_at:
                return False
            self._back_at = None
            if self._stopped:
                self._process.send_signal(signal.SIGCONT)
            else:
                self._process = self._start()
        if not answers(self.url):
            return False
        self.outages.append(Span(self._down_since, time.monotonic()))
        self._down_since = None
        return True

    def end(self) -> None:
        """End it for good."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
