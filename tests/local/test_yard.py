"""The whole yard as processes: real models, real Redis, real Flower."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from batchyard.client import Client
from batchyard.errors import YardUnavailable
from batchyard.result import Result
from batchyard.settings import load_settings
from local.readiness import yard_settings
from local.state import StateDir

pytestmark = pytest.mark.yard

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 60.0


def command(state: StateDir, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "local", "--state-dir", str(state.path), *arguments]


def local(state: StateDir, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(state, *arguments),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    made = StateDir(tmp_path / "state")
    yield made
    local(made, "down")


def family(state: StateDir) -> list[psutil.Process]:
    pid = state.supervisor()
    assert pid is not None
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _gone, alive = psutil.wait_procs(processes, timeout=LIMIT)
    assert not alive


def http_status(url: str, login: str | None = None) -> int:
    request = urllib.request.Request(url)
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_up_run_status_down(state: StateDir, tmp_path: Path) -> None:
    up = local(state, "up")
    assert up.returncode == 0, up.stderr
    processes = family(state)
    secrets = state.secrets()
    for process in processes:
        assert secrets.redis not in " ".join(process.cmdline())
        assert secrets.flower not in " ".join(process.cmdline())

    report = state.read_report()
    assert report is not None and report.flower in up.stdout
    assert http_status(f"{report.flower}/api/workers") == 401
    assert http_status(f"{report.flower}/api/workers", f"yard:{secrets.flower}") == 200

    jobs = tmp_path / "jobs.jsonl"
    rows = (ROOT / "examples" / "jobs.jsonl").read_text(encoding="utf-8").splitlines()[:12]
    jobs.write_text("\n".join([*rows, json.dumps({"prompt": "x " * 2000})]), encoding="utf-8")
    run = local(state, "run", "--jobs", str(jobs))
    assert re.search(r"^\s*all\s.*\s13\s", run.stdout, re.MULTILINE), run.stdout + run.stderr
    assert "prompt_too_long" in run.stdout
    assert run.returncode == 1  # one job has no answer, for a named reason

    status = local(state, "status")
    assert status.returncode == 0 and "worker-defect_detect: process" in status.stdout

    again = local(state, "up")
    assert again.returncode == 1 and "up here already" in again.stderr

    assert local(state, "down").returncode == 0
    assert_gone(processes)
    assert local(state, "status").returncode == 1


def test_kill_9_of_the_supervisor_leaves_nothing_and_harms_nothing(state: StateDir) -> None:
    assert local(state, "up").returncode == 0
    processes = family(state)
    assert len(processes) >= 6  # supervisor, Redis, router, two workers with their engines, Flower
    processes[0].kill()
    assert_gone(processes)
    assert local(state, "status").returncode == 1
    assert local(state, "up").returncode == 0


LISTEN_TO_SIGINT = (
    "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A shell starts background jobs, and so what a CI starts, deaf to Ctrl-C."""


def start_run(state: StateDir) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN_TO_SIGINT, *command(state, "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_drains_and_leaves_no_child(state: StateDir) -> None:
    run = start_run(state)
    assert run.stdout is not None
    for line in run.stdout:
        if "answered" in line:
            break
    processes = family(state)
    run.send_signal(signal.SIGINT)
    _out, err = run.communicate(timeout=LIMIT)
    assert run.returncode == 130
    assert "interrupted" in err and "Traceback" not in err
    assert_gone(processes)


def test_ctrl_c_before_the_yard_is_up_ends_it_too(state: StateDir) -> None:
    run = start_run(state)
    assert run.stdout is not None
    assert "Starting" in run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _out, err = run.communicate(timeout=LIMIT)
    assert run.returncode == 130, err
    assert state.supervisor() is None


def test_a_damaged_secrets_file_is_named(state: StateDir) -> None:
    state.prepare()
    (state.path / "secrets.json").write_text('{"redis": "x')
    up = local(state, "up")
    assert up.returncode == 1
    assert "secrets.json" in up.stderr and "Traceback" not in up.stderr
    (state.path / "secrets.json").unlink()


def test_a_worker_that_cannot_start_is_named_with_its_log(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "configs" / "models.yaml", tmp_path / "configs")
    for model in (ROOT / "models").glob("*.gguf"):
        (tmp_path / "models" / model.name).write_bytes(model.read_bytes()[:5000])
    up = local(state, "up", BATCHYARD_MODELS=str(tmp_path / "configs" / "models.yaml"))
    assert up.returncode == 1
    assert "died 3 times right after its start" in up.stderr
    assert ".gguf" in up.stderr and "Traceback" not in up.stderr
    assert state.supervisor() is None


def test_one_truncated_model_is_named_and_the_other_works(state: StateDir, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    whole = (ROOT / "models/chat.Q4_K_M.gguf").read_bytes()
    (tmp_path / "models/chat.Q4_K_M.gguf").write_bytes(whole[: len(whole) // 2])
    catalogue = {"BATCHYARD_MODELS": str(tmp_path / "configs" / "models.yaml")}
    up = local(state, "up", **catalogue)
    assert up.returncode == 0, up.stderr
    assert "no worker for chat" in up.stdout and "model_file_invalid" in up.stdout.replace("\n", "")
    with Client(load_settings(redis_url_file=state.url_file)) as client:
        job_id = client.submit(prompt="Board A17: solder bridge at U12.", task="defect_detect")
        assert client.result(job_id, timeout=LIMIT).ok


def test_no_model_file_at_all_is_said_at_once(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    shutil.copy(ROOT / "configs" / "models.yaml", tmp_path / "configs")
    up = local(state, "up", BATCHYARD_MODELS=str(tmp_path / "configs" / "models.yaml"))
    assert up.returncode == 1
    assert "no model can be started" in up.stderr and "there is no file" in up.stderr


@pytest.mark.parametrize("victim", ["worker-defect_detect", "redis"])
def test_a_role_killed_in_the_middle_of_a_batch_loses_no_job(state: StateDir, victim: str) -> None:
    assert local(state, "up").returncode == 0
    report = state.read_report()
    assert report is not None
    rows = (ROOT / "examples" / "jobs.jsonl").read_text(encoding="utf-8").splitlines()
    with Client(yard_settings(state)) as client:
        jobs = [{**json.loads(row), "id": f"chaos.{number}"} for number, row in enumerate(rows)]
        batch = client.submit_many(jobs, batch="chaos").batch
        answered = []
        for result in results_through_outages(client, batch):
            answered.append(result)
            if len(answered) == 60:
                os.kill(next(role.pid for role in report.roles if role.name == victim) or 0, signal.SIGKILL)
    assert sorted(result.job_id for result in answered) == sorted(job["id"] for job in jobs)
    assert all(result.ok for result in answered), [result.error for result in answered if not result.ok]
    after = state.read_report()
    assert after is not None
    assert next(role.restarts for role in after.roles if role.name == victim) == 1


def results_through_outages(client: Client, batch: str) -> Iterator[Result]:
    """The results of a batch, going on from the cursor while Redis is away."""
    cursor, end = "0", time.monotonic() + LIMIT
    while time.monotonic() < end:
        results = client.results(batch, after=cursor, timeout=LIMIT)
        try:
            for result in results:
                yield result
                cursor = results.cursor
            return
        except YardUnavailable:
            time.sleep(0.05)
