"""What the roles write into their logs, and what they keep out: the texts of jobs.

Our own lines name ids, models and counts. A text can get in through others: Celery prints the body of a
message that it does not know, and an exception's message may quote the value that it is about. Unless prompts
may be shown, both are withheld; the frames of the traceback and the exception's type stay.
"""

import logging
import traceback
from types import TracebackType
from typing import Any

from batchyard.errors import InvalidConfig, YardUnavailable

WITHHELD = "(withheld, it may quote a job; BATCHYARD_LOG_PROMPTS=true shows it)"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_SAID = (OSError, InvalidConfig, YardUnavailable)
_SAID_BY_REDIS = frozenset({"ConnectionError", "TimeoutError", "BusyLoadingError", "MaxConnectionsError"})
"""Exceptions whose messages are about machines and settings; redis-py's by name, for engines must not know
it. Its others may quote a command.
"""
_BODY = "message body"
"""In each of the texts under which Celery's consumer prints one."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def set_up_logging(level: str, *, prompts: bool) -> None:
    """Log to standard error from `level` on; texts of jobs only with `prompts`."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT) if prompts else WithoutTexts(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


class WithoutTexts(logging.Formatter):
    """Formats records without what may quote a job."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with a shortened copy of what Celery says about messages."""
        kept = logging.makeLogRecord(record.__dict__)
        kept.exc_text = None  # another handler may have written the whole one into it
        if record.name.startswith("celery."):
            _shorten(kept)
        return super().format(kept)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """The traceback, each exception's message left out where it may quote a job."""
        return "" if ei[1] is None else "".join(_frames(ei[1])).rstrip("\n")


def described(error: object) -> str:
    """An exception as a log may show it: its type, and its message where that is about machines."""
    of_redis = type(error).__module__ == "redis.exceptions" and type(error).__name__ in _SAID_BY_REDIS
    if of_redis or isinstance(error, _SAID):
        return f"{type(error).__name__}: {error}"
    return f"{type(error).__name__} {WITHHELD}"


def _frames(error: BaseException, depth: int = 0) -> list[str]:
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < 5:
        lines += [*_frames(cause, depth + 1), "\nand then:\n\n"]
    lines.append("Traceback (most recent call last):\n")
    lines += traceback.format_tb(error.__traceback__)
    return [*lines, described(error) + "\n"]


def _shorten(record: logging.LogRecord) -> None:
    args: Any = record.args
    if _BODY in str(record.msg):
        record.msg = f"{str(record.msg).partition('%')[0].strip()} {WITHHELD}"
        record.args = ()
    elif isinstance(args, dict):  # the tracer's, about a task
        record.args = args | dict.fromkeys(("exc", "traceback", "args", "kwargs"), WITHHELD)
    elif isinstance(args, tuple):
        record.args = tuple(described(arg) if isinstance(arg, BaseException) else arg for arg in args)
