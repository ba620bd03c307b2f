"""Threads and spinning, decided before the library loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.engine.environment import DEFAULT_SPIN_COUNT, bound_spinning, choose_threads


def test_spinning_is_bounded_unless_the_user_decided() -> None:
    environment: dict[str, str] = {}
    bound_spinning(environment)
    assert environment == {"GOMP_SPINCOUNT": DEFAULT_SPIN_COUNT}
    for given in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        environment = dict(given)
        bound_spinning(environment)
        assert environment == given


def machine(root: Path, siblings: dict[int, str], quota: str | None) -> Path:
    for cpu, text in siblings.items():
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    if quota is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/cpu.max").write_text(quota + "\n")
    return root


@pytest.mark.parametrize(
    ("siblings", "quota", "threads"),
    [
        ({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, None, 2),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "max 100000", 4),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "150000 100000", 2),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, "10000 100000", 1),
        ({}, None, 4),
    ],
)
def test_threads_are_physical_cores_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, siblings: dict[int, str], quota: str | None, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    assert choose_threads(machine(tmp_path, siblings, quota)) == threads


def test_affinity_bounds_the_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5})
    assert choose_threads(tmp_path) == 1
