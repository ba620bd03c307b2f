"""The roles of a one-machine yard: with which command line and environment each runs, in which order.

Knows the other parts of the yard by their command lines alone.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.fit import Placement
from local.redis_server import HOST, answers, redis_command, redis_url
from local.state import FLOWER_USER, Secrets, StateDir

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Role:
    """One child process.

    Roles of a lower `stage` start first and stop last. `ready` says whether the next stage may start.
    `stop_seconds` is how long it may take to end what it is doing. `on_parent_death` is the signal it
    gets if the supervisor is gone.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    stage: int
    stop_seconds: float
    on_parent_death: signal.Signals
    ready: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on the loopback interface."""

    redis: int
    flower: int


def worker_name(model: str) -> str:
    """The role that serves a model."""
    return f"worker-{model}"


def yard_roles(
    state: StateDir, workers: Sequence[Placement], ports: Ports, secrets: Secrets
) -> tuple[Role, ...]:
    """Redis, the router, the workers, and Flower.

    Passwords travel in files and in the environment, never in a command line that `ps` shows. The roles
    other than Redis are killed if the supervisor is gone: Redis has their jobs and gives them out again.
    """
    url = redis_url(ports.redis, secrets.redis)
    environment = {
        **os.environ,
        "BATCHYARD_REDIS_URL_FILE": str(state.url_file.resolve()),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("BATCHYARD_REDIS_URL", None)
    redis = tuple(redis_command(state.redis, ports.redis, append_only=True, password=secrets.redis))

    def python(name: str, *arguments: str, **more: str) -> Role:
        command = (sys.executable, "-m", *arguments)
        return Role(name, command, environment | more, 1, 30.0, signal.SIGKILL)

    return (
        Role("redis", redis, dict(os.environ), 0, 10.0, signal.SIGTERM, lambda: answers(url)),
        python("router", "router", "worker"),
        *(python(worker_name(worker.model), "workers", *_worker_arguments(worker)) for worker in workers),
        python(
            "flower", "local.flower_server", f"--address={HOST}", f"--port={ports.flower}",
            FLOWER_BASIC_AUTH=f"{FLOWER_USER}:{secrets.flower}",
        ),
    )  # fmt: skip


def _worker_arguments(worker: Placement) -> list[str]:
    return ["--model", worker.model, "--gpu", worker.gpu or "none"]
