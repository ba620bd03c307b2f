"""Reading the task-meta documents that a job's state is kept in, as any client could. Pure."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from batchyard.states import FINAL, State

_STATUS = re.compile(rb'^\{"status": ?"([A-Z]+)"')


@dataclass(frozen=True, slots=True)
class Document:
    """A state document: its state, the worker that it names (STARTED and SUCCESS do, else empty), its result,
    and a digest of the whole; the last two only of those that name one, and of final ones."""

    state: str
    worker: str
    result: Any
    digest: str

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL


def status_of(raw: bytes) -> str:
    """The state that a document begins with."""
    match = _STATUS.match(raw)
    return match[1].decode() if match else "UNREADABLE"


def read(raw: bytes) -> Document:
    """The document in the bytes of a result key. A worker is named by what stands before its @."""
    state = status_of(raw)
    if state not in FINAL and state != State.STARTED:  # names no worker; read ten times a second
        return Document(state, "", None, "")
    result = json.loads(raw).get("result")
    worker = ""
    if isinstance(result, dict):
        worker = result.get("hostname") or (result.get("provenance") or {}).get("worker") or ""
    return Document(state, worker.split("@")[0], result, hashlib.blake2b(raw, digest_size=12).hexdigest())
