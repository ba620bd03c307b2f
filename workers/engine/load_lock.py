"""One engine at a time loads on a GPU: two that look at the free memory at once would both find enough.

A lock on a file of the host, named by the GPU, held from the look to the last allocation. The kernel gives it
back when the process dies. It knows no model; containers that share a card must share the folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from workers.engine.errors import GPU_LOCKED, MODEL_FILE_INVALID, EngineError

PATIENCE_S: Final = 600.0
"""A large model from a slow disk takes minutes; the worker gives its engine 15 for all."""
_POLL_S: Final = 0.1
logger = logging.getLogger(__name__)


@contextmanager
def held(paths: Sequence[str], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the locks on these files, which are made if they are missing; waits for each, and says for whom.

    In the order of their names, so that two engines that split over the same GPUs cannot wait for each other.

    Raises:
        EngineError: a file cannot be opened (`model_file_invalid`), or another process has its lock for
            longer than `patience_s` (`gpu_locked`).
    """
    with ExitStack() as stack:
        for path in sorted(set(paths)):
            try:
                descriptor = _open(path)
            except OSError as error:
                raise EngineError(
                    MODEL_FILE_INVALID,
                    f"cannot lock the GPU through {path}: {error.strerror}",
                    field="load_locks",
                    remedy="let this user read the file, or name another shared folder in BATCHYARD_LOCKS",
                ) from error
            stack.callback(os.close, descriptor)
            if not _taken(descriptor):
                _wait(descriptor, path, patience_s)
        yield


def _wait(descriptor: int, path: str, patience_s: float) -> None:
    logger.warning("waiting for %s, which has the lock %s of the GPU", _holder(descriptor), path)
    limit = time.monotonic() + patience_s
    while time.monotonic() < limit:
        time.sleep(_POLL_S)
        if _taken(descriptor):
            logger.warning("the lock %s is free", path)
            return
    raise EngineError(
        GPU_LOCKED,
        f"{_holder(descriptor)} has had the lock {path} of the GPU for more than {patience_s:g} s",
        field="load_locks",
        remedy="end that process if it hangs; its lock is free then",
    )


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    try:
        locks = Path("/proc/locks").read_text("ascii")
    except OSError:
        locks = ""
    return holder_of(os.fstat(descriptor).st_ino, locks)


def holder_of(inode: int, locks: str) -> str:
    """Who has the lock on a file, by the text of /proc/locks; some kernels and containers hide it."""
    for line in locks.splitlines():
        # 1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF; one that waits has -> before FLOCK
        match line.split():
            case [_, "FLOCK", _, _, pid, file, *_] if (
                file.endswith(f":{inode}") and pid.isdecimal() and int(pid)
            ):
                return f"process {pid}"
    return "another process"


def _open(path: str) -> int:
    """Open without writing: another user's worker may have made the file, and a lock needs no more."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            # another worker made it between the two calls
            continue
