import os
import stat
import subprocess
import sys
from pathlib import Path

from local.state import Report, RoleReport, StateDir

ROOT = Path(__file__).resolve().parent.parent.parent


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.prepare()
    first = state.secrets()
    assert first == state.secrets()
    assert first.redis != first.flower and len(first.redis) >= 24
    assert stat.S_IMODE((state.path / "secrets.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700


def test_two_yards_have_different_secrets(tmp_path: Path) -> None:
    yards = [StateDir(tmp_path / name) for name in "ab"]
    for state in yards:
        state.prepare()
    assert yards[0].secrets().redis != yards[1].secrets().redis


def test_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.read_report() is None
    report = Report("up", "http://127.0.0.1:1", ("m",), {"n": "no file"}, (RoleReport("redis", 7, 1, 0),))
    state.write_report(report)
    assert state.read_report() == report
    state.clear_report()
    assert state.read_report() is None


def test_lock_tells_a_live_supervisor_from_a_dead_one(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert state.supervisor() is None
    script = (
        "import sys; from pathlib import Path; from local.state import StateDir\n"
        "lock = StateDir(Path(sys.argv[1])).take_lock(); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    assert state.supervisor() == holder.pid
    assert state.take_lock() is None
    holder.kill()
    holder.communicate()
    assert state.supervisor() is None
    lock = state.take_lock()
    assert lock is not None
    with lock:
        assert state.supervisor() == os.getpid()


def test_log_tail_is_the_end(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.prepare()
    assert state.log_tail("worker") == ""
    state.log("worker").write_text("".join(f"line {n}\n" for n in range(10_000)))
    assert state.log_tail("worker", 2) == "line 9998\nline 9999"
