"""The files of a folder of results in JSON lines: their names and order, appending, mending, looking up.

    results-2026-11-24-after-0-0.jsonl
    results-2026-11-24-after-1795714862123-4.jsonl

A name says the day on which the file was begun and the highest entry that stood in the folder before, so that
what a file cannot hold is known without opening it. One process writes, under a lock.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.errors import InvalidConfig, shown

logger = logging.getLogger(__name__)

Mark = tuple[int, int]
"""An entry's id as numbers (milliseconds, sequence)."""

_NAME = re.compile(r"results-(\d{4}-\d{2}-\d{2})-after-(\d+)-(\d+)\.jsonl")
_KEY = re.compile(rb'\{"entry":"(\d+)-(\d+)","job_id":"(?:[^"\\]|\\.)*"')
"""How a line begins: what makes it the record of one final result."""


@dataclass(frozen=True, slots=True, order=True)
class LineFile:
    """One file: `after` is the highest entry of those before it, `day` (ISO) when it was begun."""

    after: Mark
    day: str
    path: Path

    @classmethod
    def named(cls, folder: Path, day: str, after: Mark) -> "LineFile":
        """The file of this name, whether it exists or not."""
        return cls(after, day, folder / f"results-{day}-after-{after[0]}-{after[1]}.jsonl")


def files_in(folder: Path) -> list[LineFile]:
    """The files of results, oldest first; empty without the folder."""
    if not folder.is_dir():
        return []
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(
        LineFile((int(name[2]), int(name[3])), name[1], path) for path, name in found if name is not None
    )


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line) of a file; a last line that is not written to its end is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line


def no_record(path: Path, number: int, line: bytes) -> InvalidConfig:
    """The error for a line that cannot be read."""
    return InvalidConfig(
        f"line {number} is no record: {shown(line[:60])}",
        code="ledger_damaged",
        field=str(path),
        remedy="restore the file from a backup, or take the line out",
    )


def append_durably(descriptor: int, data: bytes) -> None:
    """Append all of `data` and return when it is on disk. On an error the file is as long as before."""
    size = os.fstat(descriptor).st_size
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def mend(path: Path, descriptor: int) -> None:
    """Cut off what stands behind the last whole line: a writer that died left it; its entry comes again."""
    whole = position = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            if line.endswith(b"\n") and _is_json(line):
                whole = position
    if whole < position:
        logger.warning("%s: %d bytes of a line that was never finished are cut off", path, position - whole)
        os.ftruncate(descriptor, whole)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class FolderWriter:
    """The one writer of a folder: knows the file that is written and the highest entry in any of them.

    Raises OSError where the file system does, `BlockingIOError` where another process writes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = _opened(folder / "lock")
        self._descriptor = -1
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            files = files_in(folder)
            self._current: LineFile | None = files[-1] if files else None
            self._highest: Mark = (0, 0)
            if self._current is not None:
                self._descriptor = _opened(self._current.path)
                mend(self._current.path, self._descriptor)
                os.fsync(self._descriptor)  # what its last writer wrote, but did not live to see on disk
                entries = (_mark(line) for _, line in lines_of(self._current.path))
                self._highest = max([self._current.after, *entries])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file and of the lock."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def append(self, lines: Sequence[bytes], day: str) -> None:
        """Append those lines that the folder does not have, on a day (ISO); they are on disk on return."""
        known = self._known([line for line in lines if _mark(line) <= self._highest])
        fresh = {key: line for line in lines if (key := _key(line)) not in known}
        if fresh:
            self._turn(day)
            append_durably(self._descriptor, b"".join(fresh.values()))
            self._highest = max([self._highest, *map(_mark, fresh.values())])

    def _known(self, lines: Sequence[bytes]) -> set[bytes]:
        """The keys of those lines that stand in the folder. Files that were ended before the lowest of their
        entries came are not opened."""
        found: set[bytes] = set()
        if not lines:
            return found
        lowest, keys = min(map(_mark, lines)), set(map(_key, lines))
        files = files_in(self._folder)
        for file, following in zip(files, [*files[1:], None], strict=True):
            if following is None or following.after >= lowest:
                found |= keys.intersection(_key(line) for _, line in lines_of(file.path))
        return found

    def _turn(self, day: str) -> None:
        """Begin a new file where the current one is full or of another day."""
        current = self._current
        if current is not None:
            full = os.fstat(self._descriptor).st_size >= self._max_bytes
            day = max(day, current.day)
            if day == current.day and (not full or current.after == self._highest):
                return
        file = LineFile.named(self._folder, day, self._highest)
        descriptor = _opened(file.path)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._current, self._descriptor = file, descriptor
        _sync_folder(self._folder)


def _key(line: bytes) -> bytes:
    found = _KEY.match(line)
    return found[0] if found else b""


def _mark(line: bytes) -> Mark:
    found = _KEY.match(line)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _opened(path: Path) -> int:
    """A file to append to, made if it is not there, for our user alone: answers are the customer's text."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
