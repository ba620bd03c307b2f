"""Child processes of a benchmark: started with a log, awaited, ended; they die with the benchmark."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from batchyard.errors import YardUnavailable
from local.leash import leashed
from local.readiness import consumed_queues

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120.0
STOP_SECONDS = 40.0


@contextmanager
def consumer(
    app: Celery, queue: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[int]:
    """`python -m ARGUMENTS` as a Celery worker, from when it consumes `queue` until it has ended.

    Yields its process id.

    Raises:
        YardUnavailable: it did not come up; the message ends with its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            leashed([sys.executable, "-m", *arguments], signal.SIGKILL),
            env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        _await(process, app, queue, log)
        yield process.pid
    finally:
        _stop(process)


def _await(process: "subprocess.Popen[bytes]", app: Celery, queue: str, log: Path) -> None:
    limit = time.monotonic() + READY_SECONDS
    while queue not in consumed_queues(app):
        if process.poll() is not None or time.monotonic() > limit:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise YardUnavailable(f"no consumer of {queue} came up; the end of its log:\n{tail}")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
