"""Router, a worker and Flower as processes, each under its own user of a Redis, with their logs in files."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from batchyard.app import make_app
from batchyard.settings import Settings
from local.leash import leashed
from local.redis_server import HOST, free_ports

ROOT = Path(__file__).resolve().parents[2]
LOGIN = "yard:flower-password-7d41"
ROUTER = ("-m", "router", "worker")
WORKER = ("-m", "workers", "--model", "defect_detect", "--gpu", "none", "--threads", "1")


@dataclass
class Yard:
    """The processes by name; `logs` has a file of each."""

    logs: Path
    flower: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def all_logs(self) -> str:
        return "\n".join(self.log(name) for name in self.processes)

    def start(self, name: str, arguments: Sequence[str], url_file: Path, more: Mapping[str, str]) -> None:
        """Start a role, a Python program, that finds Redis through a file."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BATCHYARD_")}
        environ |= {"BATCHYARD_REDIS_URL_FILE": str(url_file), "PYTHONUNBUFFERED": "1", **more}
        with (self.logs / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                leashed([sys.executable, *arguments], signal.SIGTERM),
                cwd=ROOT, env=environ, stdout=log, stderr=log,
            )  # fmt: skip

    def await_answers(self, settings: Settings, *names: str) -> None:
        """Return when the Celery processes answer a ping."""
        limit, missing = time.monotonic() + 120, set(names)
        with make_app(settings) as app:
            while missing:
                assert time.monotonic() < limit, self.all_logs()
                for name, process in self.processes.items():
                    assert process.poll() is None, self.log(name)
                replies = app.control.ping(timeout=1.0, limit=len(names))
                missing -= {worker.split("@")[0] for reply in replies for worker in reply}

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)


@contextmanager
def own_users_yard(
    folder: Path, url_files: Mapping[str, Path], pinging: Settings, *, flower: bool = False, **more: str
) -> Iterator[Yard]:
    """The processes, up; `url_files` by role, `pinging` of somebody who may command workers, `more` for every
    process's environment.
    """
    yard = Yard(folder)
    with ExitStack() as stack:
        stack.callback(yard.stop)
        yard.start("router", ROUTER, url_files["router"], more)
        yard.start("worker", WORKER, url_files["worker"], more)
        if flower:
            (port,) = free_ports(1)
            yard.flower = f"http://{HOST}:{port}"
            login = folder / "flower_login"
            login.write_text(LOGIN, encoding="utf-8")
            environ = {**more, "FLOWER_LOGIN_FILE": str(login), "PYTHONPATH": str(ROOT)}
            arguments = ("docker/flower_server.py", f"--address={HOST}", f"--port={port}")
            yard.start("flower", arguments, url_files["flower"], environ)
            _await_http(f"{yard.flower}/healthcheck")
        yard.await_answers(pinging, "router", "defect_detect")
        yield yard


def _await_http(url: str) -> None:
    limit = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < limit, f"{url} does not answer"
            time.sleep(0.05)
