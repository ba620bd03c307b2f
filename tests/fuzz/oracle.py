"""What must hold for every input of every target: errors that can be read, and an end within bounded time.

Knows no parser.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from batchyard.errors import YardError

LONGEST_ERROR = 1500
"""Characters of an error, remedy and all; an error must not repeat what it complains of."""
MOST_SECONDS = 5.0
"""Processor time that one input may take. Inputs have at most 4,096 bytes unless a target says otherwise."""


class Nonsense(AssertionError):
    """A parser accepted, refused or answered something that makes no sense."""


class Hang(BaseException):
    """One input took more processor time than it may; no `except Exception` of a parser catches it."""


@dataclass(frozen=True)
class Target:
    """One parser under test.

    `run` takes any bytes and says whether they were accepted; what it raises is a finding. `seeds` makes real
    inputs to begin with. `kind` says how inputs are mutated (see `mutate`), `weight` is its part of a run.
    """

    name: str
    run: Callable[[bytes], bool]
    seeds: Callable[[], list[bytes]]
    kind: str
    weight: int
    max_len: int = 4096


def hold(condition: object, why: str) -> None:
    """Raise Nonsense unless `condition` holds; unlike `assert`, also under -O."""
    if not condition:
        raise Nonsense(why)


def check_error(error: YardError) -> None:
    """An error is one readable line of bounded length, survives its trip through Celery, and is JSON."""
    whole = str(error)
    hold(len(whole) <= LONGEST_ERROR, f"an error of {len(whole):,} characters: {whole[:200]!r}")
    for part in (error.code, error.message, error.field or "", error.remedy or ""):
        hold(isinstance(part, str) and part.isprintable(), f"an error holds what cannot be printed: {part!r}")
    hold(error.message, "an error without a message")
    hold(error.remedy, f"an error without a remedy: {whole}")
    hold(type(error)(*error.args).as_dict() == error.as_dict(), "an error that its arguments do not rebuild")
    json.dumps(error.as_dict(), ensure_ascii=False).encode("utf-8")


def limited(target: Target, data: bytes, seconds: float = MOST_SECONDS) -> bool:
    """Run one input under a limit of processor time.

    Raises:
        Hang: it took longer. Whatever else `target.run` raises comes through.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang(f"more than {seconds:g} s of processor time for {len(data):,} bytes")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        return target.run(data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def same_values(given: object, kept: object, where: str = "") -> None:
    """What was accepted means what was written: a truth value is no number, a text is no number, and nothing
    that was given is left out. `kept` is the model's JSON form, defaults included."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            hold(key in kept, f"{where}.{key} was accepted and is gone")
            same_values(value, kept[key], f"{where}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        hold(len(given) == len(kept), f"{where} lost items")
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            same_values(one, other, f"{where}.{at}")
    elif isinstance(given, bool) or isinstance(kept, bool) or given is None or kept is None:
        hold(given is kept, f"{where}: {given!r} was taken for {kept!r}")
    else:
        hold(given == kept, f"{where}: {given!r} was taken for {kept!r}")
