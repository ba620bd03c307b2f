"""The chaos run in short: whatever kills or restarts something, on a real yard, and nothing is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import parse_arguments

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.yard
def test_nothing_is_lost(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [
        sys.executable, "-m", "benchmarks.chaos", "--seed", "29", "--faults", "5", "--jobs", "150",
        "--window", "80", "--workers", "2", "--logs", str(tmp_path / "logs"), "--json", str(figures),
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(figures.read_text())["figures"]
    assert sum(found["faults"].values()) == 5
    assert found["jobs"] >= 150
    assert set(found["violations"].values()) == {0}
    assert not (tmp_path / "logs").exists()


def test_a_run_without_a_seed_draws_one(tmp_path: Path) -> None:
    drawn = {parse_arguments(["--logs", str(tmp_path)])[0].seed for _ in range(3)}
    assert len(drawn) == 3
    assert parse_arguments(["--seed", "7", "--logs", str(tmp_path)])[0].seed == 7
