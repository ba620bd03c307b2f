"""One engine at a time loads on a GPU: two that look at the free memory at once would both find enough.

A lock on a file of the host, named by the GPU, held from the look to the last allocation. The kernel gives it
back when the process dies. It knows no model; containers that share a card must share the folder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from workers.engine.errors import MODEL_FILE_INVALID, EngineError


@contextmanager
def held(paths: Sequence[str]) -> Iterator[None]:
    """Hold the locks on these files, which are made if they are missing; waits for each.

    In the order of their names, so that two engines that split over the same GPUs cannot wait for each other.

    Raises:
        EngineError: a file cannot be opened.
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
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


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
