"""Two engines never load on one GPU at the same time, and a dead one holds nobody up."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.engine.errors import EngineError
from workers.engine.load_lock import held, holder_of
from workers.engine.loader import load
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook

HOLDER = """
import sys
from workers.engine.load_lock import held
with held(sys.argv[1:]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(*paths: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, *map(str, paths)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def release(process: subprocess.Popen[str]) -> None:
    process.communicate("\n")
    assert process.returncode == 0


def test_the_second_waits_until_the_first_lets_go(tmp_path: Path) -> None:
    a, b = tmp_path / "a.lock", tmp_path / "b.lock"
    with held([str(b), str(a)]):
        waiting = holder(a)
        other = holder(tmp_path / "c.lock")
        assert said(other) == "held\n", "another GPU's lock is free"
        assert waiting.poll() is None
        release(other)
    assert said(waiting) == "held\n"
    release(waiting)


def test_who_waits_says_so_and_who_waits_in_vain_names_the_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.lock"
    first = holder(path)
    assert said(first) == "held\n"
    with pytest.raises(EngineError, match=f"the lock {path} of the GPU") as caught, held([str(path)], 0.0):
        pass
    assert caught.value.code == "gpu_locked"
    assert f"waiting for {caught.value.message.split(' has ')[0]}, which has the lock {path}" in caplog.text
    release(first)
    with held([str(path)], 0.0):
        pass


def test_the_kernel_s_list_of_locks_names_the_holder() -> None:
    locks = (
        "1: POSIX  ADVISORY  WRITE 7 08:01:42 0 EOF\n"
        "2: FLOCK  ADVISORY  WRITE 0 08:01:43 0 EOF\n"
        "3: FLOCK  ADVISORY  WRITE 1234 08:01:42 0 EOF\n"
        "3: -> FLOCK  ADVISORY  WRITE 99 08:01:44 0 EOF\n"
    )
    assert holder_of(42, locks) == "process 1234"
    assert {holder_of(inode, locks) for inode in (2, 43, 44)} == {"another process"}


def test_a_process_that_is_killed_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = holder(path)
    assert said(first) == "held\n"
    second = holder(path)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert said(second) == "held\n"
    release(second)


def test_no_lock_is_no_wait_and_one_named_twice_is_one(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lock")
    with held([]), held([path, path]):
        assert Path(path).is_file()


def test_a_lock_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "missing" / "a.lock", tmp_path / "link"):
        with pytest.raises(EngineError, match=str(path)), held([str(path)]):
            pass
    assert not (tmp_path / "elsewhere").exists()


class Curious(Notebook):
    """Asks for the lock while the engine loads: the loader calls it then."""

    def __init__(self, path: Path, lock: Path) -> None:
        super().__init__(path)
        self._lock = lock
        self.answers: list[bool] = []

    def remember(self, kind: str, key: str, find_out: Callable[[], str]) -> str:
        self.answers.append(is_free(self._lock))
        return super().remember(kind, key, find_out)


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_model_is_loaded_under_the_lock_and_gives_it_back(tmp_path: Path, q4_model: Path) -> None:
    lock = tmp_path / "a.lock"
    notebook = Curious(tmp_path / "engine.json", lock)
    settings = EngineModel("m", str(q4_model), n_ctx=64, n_slots=1, n_threads=1, load_locks=(str(lock),))
    runtime = load(settings, notebook=notebook)
    try:
        assert notebook.answers and not any(notebook.answers)
        assert is_free(lock)
    finally:
        runtime.close()
