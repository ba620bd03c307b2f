"""The engine's own log: lines without what an exception says, for that may quote a request.

Its type and the frames say where to look.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class FramesOnly(logging.Formatter):
    """Formats a traceback without the texts of its exceptions."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """The frames, and the exception's type."""
        kind, _, frames = ei
        return "" if kind is None else "".join(traceback.format_tb(frames)) + kind.__name__


def log_to_stderr() -> None:
    """Log warnings and worse to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(FramesOnly("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
