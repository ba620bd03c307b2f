"""JSONL in: the lines of a file of jobs as mappings, each with an id that a second run repeats.

Knows no queue. A bad line is reported with its number and the others go on.
"""

import bisect
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from batchyard.errors import InvalidJob, YardError, shown
from batchyard.jsonvalue import printable
from batchyard.submission import MAX_FIELDS_BYTES

Report = Callable[[int, YardError], None]
"""Called with the number of a line (the first is 1) and what is wrong with it."""


def longest_line(max_prompt_bytes: int) -> int:
    """Bytes that a line can need for a job within the limits: JSON may write each byte of text with six."""
    return 6 * (max_prompt_bytes + MAX_FIELDS_BYTES)


def read_lines(file: IO[bytes], most: int) -> Iterator[bytes]:
    """The lines of a file, one at a time. Of a line of more than `most` bytes the first `most` + 1 come, and
    the rest is passed over: no line, however long, is held in memory."""
    while line := file.readline(most + 1):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(1 << 16)):
            pass


class JobRows:
    """The jobs in the lines of a JSONL text, read once, one at a time.

    A row without an id gets `<batch>-<line number>`, so that submitting the same text again under the
    same batch repeats no work. `defaults` are fields for rows that do not have them. A line of more than
    `most` bytes is refused unread.
    """

    def __init__(
        self, lines: Iterable[bytes], batch: str, defaults: Mapping[str, Any], report: Report, most: int
    ) -> None:
        self._lines = lines
        self._most = most
        self._batch = batch
        self._defaults = defaults
        self._report = report
        self._starts: list[int] = []
        self._offsets: list[int] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        index = 0
        for number, line in enumerate(self._lines, 1):
            try:
                row = parse_row(line, self._most)
            except InvalidJob as exc:
                self._report(number, exc)
                continue
            if row is None:
                continue
            if not self._offsets or self._offsets[-1] != number - index:
                self._starts.append(index)
                self._offsets.append(number - index)
            index += 1
            yield {**self._defaults, "id": f"{self._batch}-{number}", **row}

    def line_of(self, index: int) -> int:
        """The number of the line that gave the row at position `index`."""
        return index + self._offsets[bisect.bisect_right(self._starts, index) - 1]


def parse_row(line: bytes, most: int) -> dict[str, Any] | None:
    """The JSON object in one line of at most `most` bytes; None if the line is blank.

    Raises:
        InvalidJob: code `line_too_long`, `invalid_utf8` or `invalid_json`.
    """
    if len(line) > most and len(line.rstrip(b"\r\n")) > most:
        raise InvalidJob(
            f"the line has more than {most:,} bytes",
            code="line_too_long",
            remedy="is each job on its own line? Split the document, or raise BATCHYARD_MAX_PROMPT_BYTES",
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidJob(
            f"byte {exc.start} of the line is not UTF-8: {shown(line[exc.start : exc.start + 4])}",
            code="invalid_utf8",
            remedy="save the file as UTF-8",
        ) from None
    text = text.removeprefix("\ufeff")
    if not text.strip():
        return None
    try:
        row = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise InvalidJob(
            printable(f"not JSON: {exc}"), code="invalid_json", remedy="write one JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise InvalidJob(
            f"not a JSON object: {shown(row)}", code="invalid_json", remedy='such as {"prompt": "…"}'
        )
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys all differ: of two values under one key, one would be lost without a word."""
    row: dict[str, Any] = {}
    for key, value in pairs:
        if key in row:
            raise ValueError(f"the key {shown(key)} is there twice")
        row[key] = value
    return row


def batch_of(path: Path) -> str:
    """The batch name for a file: its stem and a digest of its content, so the same file is the same batch."""
    digest = hashlib.blake2b(digest_size=6)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in path.stem)
    return f"{stem.lstrip('_.-')[:64] or 'batch'}-{digest.hexdigest()}"
