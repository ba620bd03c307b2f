"""The yard on one machine as a whole: supervise it, bring it up, take it down, say how it fares."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from batchyard.catalogue import LlamaEntry, ModelEntry, load_catalogue
from batchyard.entry import OpenaiEntry
from batchyard.errors import InvalidConfig
from batchyard.settings import Settings, load_settings
from local.fit import ModelNeed, Plan, fit
from local.leash import leashed
from local.machine import free_memory, gpu_rooms
from local.processes import Supervisor
from local.readiness import await_ready
from local.redis_server import HOST, free_ports, redis_url
from local.roles import ROOT, Ports, yard_roles
from local.state import Report, RoleReport, StateDir

STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05


def machine_plan(settings: Settings) -> Plan:
    """The workers for the catalogue's models on this machine.

    Raises:
        InvalidConfig: the catalogue is at fault, or no worker fits.
    """
    path = settings.models if settings.models.is_absolute() else ROOT / settings.models
    folder = path.resolve().parent.parent
    needs = [_need(model, folder) for model in load_catalogue(path).model_list]
    plan = fit(needs, free_memory(), gpu_rooms())
    if not plan.workers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in plan.skipped.items())
        raise InvalidConfig(
            f"no model can be started ({reasons})", field=str(path), remedy="put the model files in place"
        )
    return plan


def _need(model: ModelEntry, folder: Path) -> ModelNeed:
    if isinstance(model, OpenaiEntry):
        return ModelNeed(model.model_name, model.api_base, 0, gpu=False)
    mmproj = model.mmproj_path if isinstance(model, LlamaEntry) else None
    files = [folder / path for path in (model.model_path, mmproj) if path is not None]
    size = sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None
    return ModelNeed(model.model_name, str(files[0]), size, gpu=model.wants_gpu)


def supervise(state: StateDir) -> None:
    """Run the yard in this process until SIGTERM.

    Raises:
        YardUnavailable: another supervisor has this state directory.
        InvalidConfig: see `machine_plan`.
    """
    state.prepare()
    lock = state.take_lock()
    if lock is None:
        raise _up_already(state)
    with lock:
        plan = machine_plan(load_settings())
        secrets = state.secrets()
        ports = Ports(*free_ports(2))
        state.write_private(state.url_file, redis_url(ports.redis, secrets.redis))
        models = tuple(worker.model for worker in plan.workers)
        report = Report("starting", f"http://{HOST}:{ports.flower}", models, dict(plan.skipped))
        state.write_report(report)

        def changed(phase: str, roles: tuple[RoleReport, ...]) -> None:
            state.write_report(replace(report, phase=phase, roles=roles))

        Supervisor(yard_roles(state, plan.workers, ports, secrets), state, changed).run()
        state.clear_report()


def _up_already(state: StateDir) -> InvalidConfig:
    return InvalidConfig(
        "a yard is up here already", code="yard_is_up", field=str(state.path), remedy="use it, or: make down"
    )


def up(state: StateDir, *, tied: bool, limit: float, whole: bool) -> Report:
    """Start a supervisor in the background and wait until every role does its work (see `await_ready` for
    `whole`).

    With `tied` the yard ends in order when this process is gone. `limit` is in seconds.

    Raises:
        YardUnavailable: it did not come up in time; the message ends with the log of the role at fault.
    """
    state.prepare()
    if state.supervisor() is not None:
        raise _up_already(state)
    state.clear_report()
    for log in state.logs.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
    command = [sys.executable, "-m", "local", "--state-dir", str(state.path.resolve()), "supervise"]
    with state.log("supervisor").open("ab") as log_file:
        process = subprocess.Popen(
            leashed(command, signal.SIGTERM) if tied else command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return await_ready(state, process, limit, whole=whole)
    except BaseException:
        # By its pid, not by the lock, which it may not have taken yet: it ends its roles on SIGTERM.
        process.terminate()
        process.wait()
        raise


def down(state: StateDir) -> bool:
    """End the yard in order and wait until it is gone; False if none was up."""
    pid = state.supervisor()
    if pid is None:
        return False
    _signal(pid, signal.SIGTERM)
    limit = time.monotonic() + STOP_SECONDS
    while state.supervisor() is not None:
        if time.monotonic() > limit:
            _signal(pid, signal.SIGKILL)  # the leash ends its children
            break
        time.sleep(_POLL_SECONDS)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
