"""What was found out about a file once and need not be found out again: hashes and smoke results.

A small JSON file under the user's cache directory, keyed by what was examined. Losing it costs time only.
It does not know what the facts mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_CHUNK: Final = 4 * 1024 * 1024


def default_path() -> Path:
    """The notebook's place: XDG_CACHE_HOME, else ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "batchyard" / "engine.json"


class Notebook:
    """Facts by kind and key. Several processes may write at once: each write replaces the file whole."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_path()

    def remember(self, kind: str, key: str, find_out: Callable[[], str]) -> str:
        """The fact noted for (kind, key), else what `find_out` returns, noted from now on."""
        name = f"{kind}:{key}"
        known = self._read().get(name)
        if known is not None:
            return known
        fact = find_out()
        self._write(name, fact)
        return fact

    def _read(self) -> dict[str, str]:
        try:
            facts = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}

    def _write(self, name: str, fact: str) -> None:
        facts = self._read()
        facts[name] = fact
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".engine-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(facts, file, indent=1, sort_keys=True)
            Path(temporary).replace(self._path)
        except OSError:
            # a read-only home costs the next start a little time, nothing else
            return


def file_identity(path: Path) -> str:
    """A key that changes when the file does: its resolved path, size and modification time."""
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
