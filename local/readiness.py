"""Waiting until a yard does its work: every queue has its consumer and Flower answers."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace

from celery import Celery
from kombu.exceptions import OperationalError

from batchyard import names
from batchyard.app import make_app
from batchyard.errors import YardUnavailable
from batchyard.settings import Settings, load_settings
from local.roles import worker_name
from local.state import Report, StateDir

EARLY_DEATHS = 3
"""A role that died so often right after its start will not come up."""
_POLL_SECONDS = 0.1


def await_ready(
    state: StateDir, supervisor: "subprocess.Popen[bytes]", limit: float, *, whole: bool
) -> Report:
    """The report of the yard once every role works; waits for at most `limit` seconds.

    Unless the yard must be `whole`, a worker that cannot start (its model file is broken, say) stands under
    `skipped` with the reason, and the others work without it.

    Raises:
        YardUnavailable: with the log of the role at fault.
    """
    end = time.monotonic() + limit
    app: Celery | None = None
    missing = "the supervisor"
    while time.monotonic() < end:
        if supervisor.poll() is not None:
            raise _failed(state, "supervisor", "the supervisor ended")
        report = state.read_report()
        if report is not None:
            report = _without_dead(state, report, whole)
        if report is not None and report.roles and all(role.pid for role in report.roles):
            app = app or make_app(yard_settings(state))
            missing = _missing(app, report)
            if not missing:
                return report
        time.sleep(_POLL_SECONDS)
    raise _failed(state, missing, f"{missing} is not ready after {limit:.0f} s")


def yard_settings(state: StateDir) -> Settings:
    """The settings of a client of this yard."""
    return load_settings(redis_url_file=state.url_file)


def _missing(app: Celery, report: Report) -> str:
    """The first role that does not work yet, or an empty string."""
    consumed = consumed_queues(app)
    roles = {names.ROUTE_QUEUE: "router"} | {names.model_queue(m): worker_name(m) for m in report.models}
    for queue, role in roles.items():
        if queue not in consumed:
            return role
    return "" if _answers(f"{report.flower}/healthcheck") else "flower"


def consumed_queues(app: Celery) -> set[str]:
    """The queues that a running worker or router consumes: each is asked for its own."""
    ask: Callable[[], dict[str, list[dict[str, str]]] | None] = app.control.inspect(timeout=0.5).active_queues
    try:
        replies = ask() or {}
    except (OperationalError, OSError):
        return set()
    return {queue["name"] for queues in replies.values() for queue in queues}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own Flower's
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _without_dead(state: StateDir, report: Report, whole: bool) -> Report:
    """The report without the workers that will not come up; any other role that will not is an error."""
    dead = {role.name for role in report.roles if role.early_deaths >= EARLY_DEATHS}
    left = tuple(model for model in report.models if worker_name(model) not in dead)
    lost = [model for model in report.models if model not in left]
    if dead and (whole or not left or len(dead) > len(lost)):
        name = min(dead)
        raise _failed(state, name, f"{name} died {EARLY_DEATHS} times right after its start")
    reasons = {model: state.log_tail(worker_name(model), lines=1) for model in lost}
    roles = tuple(role for role in report.roles if role.name not in dead)
    return replace(report, models=left, roles=roles, skipped=report.skipped | reasons)


def _failed(state: StateDir, role: str, what: str) -> YardUnavailable:
    tail = state.log_tail(role)
    where = f"{state.log(role)}:"
    return YardUnavailable(f"{what}; the end of {where}\n{tail}" if tail else what)
