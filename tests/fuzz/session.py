"""One target's part of a fuzzing run: counts inputs, keeps what fails, says when it is over.

Knows nothing of where inputs come from.
"""

import hashlib
import json
import mmap
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.oracle import Hang, Target, limited

_MOST_FAILURES = 20
CURRENT_BYTES = 1 << 16


@dataclass
class Report:
    """What came of it so far: inputs, how many were accepted, seconds, the slowest, edges, and failures
    by the place they happened at."""

    target: str
    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    edges: int | None = None
    failures: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(path: Path, target: str) -> "Report":
        """The report of earlier pieces of the same run, or an empty one."""
        return Report(**json.loads(path.read_text("utf-8"))) if path.exists() else Report(target)

    def write(self, path: Path) -> None:
        """Keep it."""
        path.write_text(json.dumps(asdict(self), indent=1), "utf-8")


class Session:
    """Runs inputs until so many have been run or so many seconds have passed."""

    def __init__(self, target: Target, folder: Path, inputs: int, seconds: float) -> None:
        self.target = target
        self.report = Report(target.name)
        self._folder = folder
        self._most = inputs
        self._until = time.monotonic() + seconds
        self._started = time.monotonic()
        current = folder / f"{target.name}.current"
        current.write_bytes(bytes(CURRENT_BYTES))
        with current.open("r+b") as file:
            # shared memory: what was being run can be read when the process has gone down with it
            self._current = mmap.mmap(file.fileno(), CURRENT_BYTES)

    def run(self, data: bytes) -> bool:
        """Run one input; whatever it raises is kept as a failure. Says whether it was accepted."""
        report = self.report
        report.inputs += 1
        self._current[:4] = len(data).to_bytes(4, "big")
        self._current[4 : 4 + len(data)] = data
        began = time.process_time()
        accepted = False
        try:
            accepted = limited(self.target, data)
        except (Exception, Hang) as error:  # noqa: BLE001  # whatever a parser raises is what we look for
            self._fail(data, error)
        report.slowest = max(report.slowest, time.process_time() - began)
        report.accepted += accepted
        return accepted

    @property
    def over(self) -> bool:
        """Whether to stop."""
        report = self.report
        return (
            report.inputs >= self._most
            or len(report.failures) >= _MOST_FAILURES
            or (report.inputs % 64 == 0 and time.monotonic() >= self._until)
        )

    def end(self) -> None:
        """Write the report where the parent looks for it."""
        self.report.seconds = time.monotonic() - self._started
        self.report.write(self._folder / f"{self.target.name}.piece.json")

    def _fail(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "site-packages" not in frame.filename] or list(frames)
        where = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if where in self.report.failures:
            return
        name = f"{self.target.name}-{hashlib.blake2b(data, digest_size=5).hexdigest()}.input"
        (self._folder / name).write_bytes(data)
        text = "".join(traceback.format_exception(error, limit=-8))
        (self._folder / f"{name}.txt").write_text(text, "utf-8", "backslashreplace")
        self.report.failures[where] = f"{name}: {str(error)[:200]}"


def current_input(folder: Path, target: str) -> bytes:
    """The input that a process was running when it ended; empty if it came to none."""
    path = folder / f"{target}.current"
    data = path.read_bytes() if path.exists() else bytes(4)
    return data[4 : 4 + int.from_bytes(data[:4], "big")]
