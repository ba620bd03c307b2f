"""From a `load` frame to an endpoint that is ready to be asked, or known to be away.

It is where the environment is read. It knows no requests.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import openai

from batchyard.entry import OpenaiEntry
from workers.breaker import Breaker
from workers.engine.errors import EngineError
from workers.port.settings import read_entry, wrong_setting
from workers.remote.asker import Asker, Chances
from workers.remote.backend import RemoteBackend
from workers.remote.endpoint import Endpoint, read_secret
from workers.remote.errors import ENDPOINT_REFUSED, EndpointError
from workers.remote.faults import Fault
from workers.remote.reply import read_models

DEFAULTS: Final = Chances()
_NO_LIST: Final = 404
"""An endpoint need not have a list of its models."""
_SHOWN: Final = 200
log = logging.getLogger(__name__)


async def load(frame: Any, environ: Mapping[str, str], chances: Chances = DEFAULTS) -> RemoteBackend:
    """A backend for the entry in the frame.

    An endpoint that is away is taken out for a while; one that refuses the key, or lists other models only,
    is an error, since no waiting cures that.

    Raises:
        EngineError: model_file_invalid, endpoint_refused.
    """
    entry = read_entry(OpenaiEntry, frame)
    endpoint = Endpoint(entry, read_secret(entry, environ))
    breaker = Breaker(entry.allowed_fails, entry.cooldown_time)
    try:
        await _look(entry, endpoint, breaker, chances.clock())
    except EngineError:
        await endpoint.close()
        raise
    asker = Asker(entry, endpoint, breaker, chances)
    return RemoteBackend(entry, asker, f"openai {openai.__version__}")


async def _look(entry: OpenaiEntry, endpoint: Endpoint, breaker: Breaker, now: float) -> None:
    body = await endpoint.models()
    if isinstance(body, bytes):
        names = read_models(body)
        if entry.check_model and names and entry.model not in names:
            raise _unlisted(entry, endpoint.host, names)
    elif _refuses(body):
        raise body.error
    elif body.trips and body.status != _NO_LIST:
        breaker.open(now)
        log.warning("%s; the worker waits for it with its jobs in the queue", body.error.message)


def _refuses(fault: Fault) -> bool:
    return isinstance(fault.error, EndpointError) and (
        fault.error.code == ENDPOINT_REFUSED and fault.status != _NO_LIST
    )


def _unlisted(entry: OpenaiEntry, host: str, names: Sequence[str]) -> EngineError:
    few = ", ".join(name[:_SHOWN] for name in names[:20])
    return wrong_setting(
        "model",
        f"{host} does not list {entry.model[:_SHOWN]!r}; it lists {few}",
        remedy="name one of these, or set check_model: false where the endpoint's list has other names",
    )
