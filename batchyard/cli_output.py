"""JSONL out: results appended to a file that an interrupted run left, none written twice."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from batchyard.errors import InvalidConfig, shown
from batchyard.result import Result


class ResultLines:
    """Writes results as JSON lines; a job that `seen` names is left out."""

    def __init__(self, file: IO[str], seen: set[str]) -> None:
        self._file = file
        self._seen = seen
        self.written = 0

    def write(self, result: Result) -> None:
        """Append one result, unless the file has it."""
        if result.job_id in self._seen:
            return
        self._seen.add(result.job_id)
        self._file.write(result.model_dump_json(exclude_none=True) + "\n")
        self._file.flush()
        self.written += 1


@contextmanager
def result_lines(path: Path | None) -> Iterator[ResultLines]:
    """Where results go: the file `path`, continued if it exists, or standard output.

    Raises:
        InvalidConfig: the file cannot be written, or holds something else than results.
    """
    if path is None:
        yield ResultLines(sys.stdout, set())
        return
    try:
        seen = _continue(path)
        file = path.open("a", encoding="utf-8")
    except OSError as exc:
        raise InvalidConfig(
            f"cannot write it: {exc.strerror}", field=str(path), remedy="name a file in an existing folder"
        ) from exc
    with file:
        yield ResultLines(file, seen)


def _continue(path: Path) -> set[str]:
    """The job ids in an existing file, whose last line is cut off if it was not written to its end."""
    seen: set[str] = set()
    if not path.exists():
        return seen
    whole = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                seen.add(json.loads(line)["job_id"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InvalidConfig(
                    f"line {number} is not a result: {shown(line[:60])}",
                    field=str(path),
                    remedy="name a new file, or one that an earlier run wrote",
                ) from None
            whole += len(line)
    with path.open("r+b") as file:
        file.truncate(whole)
    return seen
