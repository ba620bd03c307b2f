"""llama.cpp's log: its last error lines are kept for error messages instead of being printed."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from typing import Any, Final

from llama_cpp import llama_cpp as c

_ERROR_LEVEL: Final = 4


class Log:
    """Keeps llama.cpp's last error lines instead of printing everything to the terminal."""

    # the library holds one callback for the whole process and calls it even after a model is gone
    _installed: Log | None = None

    def __init__(self, verbose: bool) -> None:
        self._lines: deque[str] = deque(maxlen=8)
        self._verbose = verbose
        self._level = 0
        self.callback = c.llama_log_callback(self._receive)
        """For the other logs of the library; whoever gives it away must keep this object."""
        c.llama_log_set(self.callback, ctypes.c_void_p(0))
        Log._installed = self

    def _receive(self, level: int, text: bytes, _data: Any) -> None:
        if self._verbose:
            sys.stderr.write(text.decode("utf-8", "replace"))
        # level 5 continues the line before
        self._level = self._level if level == 5 else level
        if self._level == _ERROR_LEVEL and text.strip():
            self._lines.append(text.decode("utf-8", "replace").strip())

    def last_errors(self) -> str:
        """The most recent error lines, oldest first, in one string."""
        return "; ".join(self._lines)
