"""The yard on one machine as a whole: supervise it, bring it up, take it down, say how it fares."""

import logging
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
from local.machine import Planned, free_memory, workers_plan
from local.processes import Supervisor
from local.readiness import await_ready
from local.redis_server import HOST, free_ports, redis_url
from local.roles import ROOT, Ports, yard_roles
from local.state import Report, RoleReport, StateDir

STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
logger = logging.getLogger(__name__)


def machine_plan(settings: Settings, gpu: str = "auto") -> Plan:
    """The workers for the catalogue's models on this machine; `gpu` is `auto` (all there are) or `none`.

    Raises:
        InvalidConfig: the catalogue is at fault, or no worker fits.
    """
    path = settings.models if settings.models.is_absolute() else ROOT / settings.models
    hardware = settings.hardware if settings.hardware.is_absolute() else ROOT / settings.hardware
    settings = settings.model_copy(update={"models": path, "hardware": hardware})
    needs = [_need(model, path.resolve().parent.parent) for model in load_catalogue(path).model_list]
    there = [need.name for need in needs if need.size is not None]
    planned = workers_plan(settings, there, gpu) if there else {}
    plan = fit([_placed(need, planned.get(need.name)) for need in needs], free_memory())
    if not plan.workers:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in plan.skipped.items())
        raise InvalidConfig(
            f"no model can be started ({reasons})", field=str(path), remedy="put the model files in place"
        )
    return plan


def _need(model: ModelEntry, folder: Path) -> ModelNeed:
    if isinstance(model, OpenaiEntry):
        return ModelNeed(model.model_name, model.api_base, 0)
    mmproj = model.mmproj_path if isinstance(model, LlamaEntry) else None
    files = [folder / path for path in (model.model_path, mmproj) if path is not None]
    size = sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None
    return ModelNeed(model.model_name, str(files[0]), size)


def _placed(need: ModelNeed, planned: Planned | None) -> ModelNeed:
    """The need with what the workers say of it; a file they cannot read takes its size, and its worker says
    why it ends."""
    if need.size is None or planned is None:
        return need
    if planned.gpu is None:
        logger.warning("%s goes to the CPU: %s", need.name, planned.reason)
    return replace(need, gpu=planned.gpu, size=planned.size or need.size)


def supervise(state: StateDir, gpu: str = "auto") -> None:
    """Run the yard in this process until SIGTERM; `gpu` as for `machine_plan`.

    Raises:
        YardUnavailable: another supervisor has this state directory.
        InvalidConfig: see `machine_plan`.
    """
    state.prepare()
    lock = state.take_lock()
    if lock is None:
        raise _up_already(state)
    with lock:
        plan = machine_plan(load_settings(), gpu)
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


def up(state: StateDir, *, tied: bool, limit: float, whole: bool, gpu: str = "auto") -> Report:
    """Start a supervisor in the background and wait until every role does its work (see `await_ready` for
    `whole`, `machine_plan` for `gpu`).

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
    command = [
        sys.executable,
        "-m",
        "local",
        "--state-dir",
        str(state.path.resolve()),
        "supervise",
        "--gpu",
        gpu,
    ]
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
