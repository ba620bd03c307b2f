"""Whether a value can travel as JSON text: its depth, its characters, its numbers. Knows no job.

Walks without recursion, so that what is nested too deep is found and does not end the process's stack.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from batchyard.errors import shown

MAX_DEPTH = 64
"""Lists and objects within each other; llama.cpp's schema converter and Celery's JSON both recurse."""

_MAX_INTEGER_BITS = 1024

_UNICODE_REMEDY = "decode the bytes with the encoding they were written in before submitting"


@dataclass(frozen=True, slots=True)
class JsonFault:
    """What keeps a value from travelling: where (keys and positions from the outside in), why, and what to
    do about it. `code` is that of the InvalidJob it becomes."""

    path: tuple[str, ...]
    message: str
    remedy: str
    code: str = "invalid_job"


def printable(text: object, most: int = 400) -> str:
    """One line for an error, of at most `most` characters; what cannot be printed stands as escapes."""
    line = str(text)
    if len(line) > most:
        line = f"{line[: most - 1]}…"
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def json_fault(value: object, *, only_json: bool = False) -> JsonFault | None:
    """The first thing in `value` that cannot travel as JSON, or None.

    Looks into dicts, lists, tuples and pydantic models. What else there is (bytes, dates, …) is a fault
    with `only_json` and left to others without.
    """
    pending: list[tuple[object, tuple[str, ...]]] = [(value, ())]
    while pending:
        item, path = pending.pop()
        children = _children(item, only_json)
        if children is None:
            fault = _leaf_fault(item, only_json)
            if fault is not None:
                return JsonFault(path, *fault)
            continue
        if len(path) >= MAX_DEPTH:
            return JsonFault(
                path[:1], f"nested more than {MAX_DEPTH} deep", "flatten it, or send it as text in the prompt"
            )
        inner = list(children)
        for key, _ in inner:
            fault = _key_fault(key, only_json)
            if fault is not None:
                return JsonFault(path, *fault)
        pending += [(child, (*path, str(key))) for key, child in reversed(inner)]
    return None


def _children(item: object, only_json: bool) -> Iterator[tuple[object, object]] | None:
    if isinstance(item, dict):
        return iter(item.items())
    if isinstance(item, list | tuple):
        return enumerate(item)
    if isinstance(item, BaseModel) and not only_json:
        return iter(vars(item).items())
    return None


def _key_fault(key: object, only_json: bool) -> tuple[str, str, str] | None:
    if isinstance(key, str):
        return _text_fault(key)
    if only_json and not isinstance(key, int):
        return f"a key is text in JSON, not {type(key).__name__}", "use text keys", "invalid_job"
    return None


def _leaf_fault(item: object, only_json: bool) -> tuple[str, str, str] | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        return _text_fault(item)
    if isinstance(item, float):
        if math.isfinite(item):
            return None
        return f"not a finite number, got {item}", "give a finite number", "invalid_job"
    if isinstance(item, int):
        if item.bit_length() <= _MAX_INTEGER_BITS:
            return None
        return f"an integer of {item.bit_length():,} bits", "send it as text", "invalid_job"
    if only_json:
        return (
            f"{type(item).__name__} is no JSON value",
            "use text, numbers, lists and objects",
            "invalid_job",
        )
    return None


def _text_fault(text: str) -> tuple[str, str, str] | None:
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as exc:
        at = shown(text[exc.start : exc.start + 1])
        return f"not valid Unicode at character {exc.start}: {at}", _UNICODE_REMEDY, "invalid_utf8"
    return None
