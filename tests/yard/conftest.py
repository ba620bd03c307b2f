"""The whole yard, up once for these tests: router, workers, Flower as processes, a Redis of its own."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchyard.client import Client
from batchyard.settings import Settings
from local.state import FLOWER_USER, StateDir

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RunningYard:
    settings: Settings
    flower: str
    login: str


def local(state: StateDir, command: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "local", "--state-dir", str(state.path), command]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    state = StateDir(tmp_path_factory.mktemp("yard") / "state")
    up = local(state, "up")
    assert up.returncode == 0, up.stdout + up.stderr
    report = state.read_report()
    assert report is not None
    url = state.url_file.read_text(encoding="utf-8").strip()
    login = f"{FLOWER_USER}:{state.secrets().flower}"
    yield RunningYard(Settings(redis_url=url), report.flower, login)
    assert local(state, "down").returncode == 0


@pytest.fixture
def client(yard: RunningYard) -> Iterator[Client]:
    with Client(yard.settings) as client:
        yield client
