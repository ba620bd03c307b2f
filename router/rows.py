"""Labelled rows for training and evaluation: one JSON object a line with `text` and `task`.

The task `oos` marks a text that is out of scope. Knows nothing of classifiers.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from batchyard.errors import YardError, shown
from batchyard.job import Name
from batchyard.jsonvalue import printable
from batchyard.names import AUTO

OUT_OF_SCOPE = "oos"
_SHOWN_FAULTS = 5
_NAME: TypeAdapter[str] = TypeAdapter(Name)


class InvalidRows(YardError):
    """A file of labelled rows is at fault. Raised before anything is trained."""

    code = "invalid_rows"


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text and the line it stands on (from 1)."""

    text: str
    task: str
    line: int


def read_rows(path: Path) -> list[Row]:
    """All rows of a JSONL file; empty lines are passed over.

    Raises:
        InvalidRows: the file cannot be read, has no rows, or has bad ones (the first five with their lines).
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidRows(
            f"cannot read it: {exc.strerror}", field=str(path), remedy="name an existing file"
        ) from exc
    return parse_rows(data, str(path))


def parse_rows(data: bytes, source: str) -> list[Row]:
    """The same of a file's bytes; `source` names it in errors."""
    rows, faults = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        found = _row(line, number)
        if isinstance(found, Row):
            rows.append(found)
        else:
            faults.append(f"line {number}: {found}")
    if faults:
        more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise InvalidRows(
            "; ".join(faults[:_SHOWN_FAULTS]) + more,
            field=source,
            remedy='each line is one JSON object: {"text": "…", "task": "…"}',
        )
    if not rows:
        raise InvalidRows("has no rows", field=source, remedy="give rows of text and task")
    return rows


def _row(line: bytes, number: int) -> Row | str:
    """The row of one line, or what is wrong with it."""
    try:
        data = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as exc:
        return f"not UTF-8 at byte {exc.start + 1}"
    except (ValueError, RecursionError) as exc:
        return printable(f"not JSON: {exc}")
    if not isinstance(data, dict):
        return f"not an object: {shown(data)}"
    text, task = data.get("text"), data.get("task")
    if not isinstance(text, str) or not text.strip():
        return f"text must be a string that is not empty, got {shown(text)}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        return f"text is not valid Unicode at character {exc.start + 1}"
    try:
        task = _NAME.validate_python(task, strict=True)
    except ValidationError:
        return f"task must be the name of a task or {OUT_OF_SCOPE}, got {shown(task)}"
    if task == AUTO:
        return f"task must be the right one, not {AUTO!r}"
    return Row(text, task, number)
