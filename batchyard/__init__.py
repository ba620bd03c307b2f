"""Batchyard: submit jobs to a yard of quantised models, come back for the results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchyard.aclient import AsyncClient as AsyncClient
    from batchyard.client import Client as Client
    from batchyard.errors import YardBusy as YardBusy
    from batchyard.errors import YardError as YardError
    from batchyard.job import Job as Job
    from batchyard.result import Result as Result
    from batchyard.sampling import Sampling as Sampling
    from batchyard.settings import Settings as Settings
    from batchyard.states import State as State

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "aclient",
    "Client": "client",
    "Job": "job",
    "Result": "result",
    "Sampling": "sampling",
    "Settings": "settings",
    "State": "states",
    "YardBusy": "errors",
    "YardError": "errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"batchyard.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'batchyard' has no attribute {name!r}")
