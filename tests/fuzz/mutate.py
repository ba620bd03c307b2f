"""Changes an input a little: the values of a JSON tree, the lines of a file, the words of a text, its bytes.

Pure: the same input and random numbers give the same output. Knows no parser.
"""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

_RAW = "@raw@"
_RAW_TOKENS = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1E-400", "9" * 400, "1" + "0" * 4400, "-0", "-0.0",
    "1.0",
    "0x10", "01", "1_000", "tru", "null", "[" * 70 + "]" * 70, "[" * 3000, '{"a":' * 40 + "1" + "}" * 40,
    '{"a":1,"a":2}', '"\\ud800"', '"\\u0000"', '"\\x"', "'a'", "１",
)  # fmt: skip
"""What stands in JSON text and that Python's writer would not write."""
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 9, 10, 100, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64,
    10**30, 2**1024,
    0.0, 0.5, 1.5, -0.5, 1e-9, 1e9, 1e18, 1e308, 2e9, 253402300799, "", " ", "\n", "a", "A" * 130,
    "x" * 900, "é", "焊",
    "\ud800", "\x00", "\x1b[31m", "\u2028", "٣", "5", "0.5", "true", "auto", "default", "interactive",
    "batch", "~",
    "J1", "m", "t", "a~b", "text", "image", "user", "choices", "SUCCESS", "FAILURE", "REVOKED", "__type__",
    "os.environ/HOME", "os.environ/NO", "2026-01-01", "#/$defs/n", "#", "^a$", "(a+)+$", "0" * 64, [], {},
    [[]], [None],
    {"": ""}, {"__type__": "uuid", "__value__": 1}, {"__type__": "decimal", "__value__": "x"},
    {"type": "text"},
)  # fmt: skip
_KEYS = (
    "id", "prompt", "messages", "task", "model", "sampling", "output", "type", "schema", "choices", "grammar",
    "priority", "deadline", "time_limit", "tenant", "batch", "metadata", "raw", "content", "role", "text",
    "sha256",
    "jobs", "submitted", "job", "route", "retries", "timelimit", "eta", "expires", "headers", "body",
    "properties",
    "delivery_tag", "delivery_info", "body_encoding", "content-type", "content-encoding", "status", "result",
    "exc_type", "exc_message", "exc_module", "anyOf", "oneOf", "allOf", "$ref", "$defs", "const", "enum",
    "items",
    "prefixItems", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength",
    "minItems",
    "maxItems", "required", "properties", "additionalProperties", "minProperties", "uniqueItems", "not",
    "n_slots",
    "n_ctx", "engine", "api_key", "api_base", "memory_budget", "when", "rules", "default", "name",
    "x" * 300, "é", "",
)  # fmt: skip
_WORDS = (
    "::=", "root", "|", "(", ")", "[", "]", "[^", "-", "{", "}", "{0}", "{1,}", "{,2}", "{65536}",
    "{99999}", "*", "+",
    "?", ".", '"', '"a"', "\\", "\\x41", "\\u00e9", "\\U00110000", "\\ud800", "#", "\n", " ", "<a>", "!",
    "a", "é",
    "&a ", "*a", "<<: ", "!!int ", "!!binary ", "!!python/name:os ", "!!timestamp ", "? ", ": ", "- ", "| ",
    "> ", "%",
    "---\n", "...\n", "'", "os.environ/", "\t", "0x", "0o7", "1:60", ".inf", ".nan", "2026-13-45", "~", "@",
    "`", ",",
)  # fmt: skip


def mutate(data: bytes, kind: str, chance: random.Random, seeds: list[bytes], max_len: int) -> bytes:
    """Another input of at most `max_len` bytes, made of `data` and sometimes of a seed. `kind` is json,
    message, lines, yaml, text or bytes."""
    change: Callable[[bytes, random.Random, list[bytes]], bytes]
    if chance.random() < 0.12:
        change = _bytes
    else:
        change = {"json": _json, "message": _message, "lines": _lines, "yaml": _yaml, "text": _text}.get(
            kind, _bytes
        )
    return change(data, chance, seeds)[:max_len]


def _json(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    tree = _tree(data)
    if tree is _NONE:
        tree = _tree(chance.choice(seeds))
    if tree is _NONE:
        return _bytes(data, chance, seeds)
    return _written(_changed(tree, chance, seeds), chance)


def _changed(tree: Any, chance: random.Random, seeds: list[bytes]) -> Any:
    box = [tree]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        _change_one(box, chance, seeds)
    return box[0]


_NONE = object()


def _tree(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _NONE


def _written(tree: Any, chance: random.Random) -> bytes:
    try:
        text = json.dumps(tree, ensure_ascii=chance.random() < 0.5)
        data = text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return b"{}"
    raw = f'"{_RAW}"'.encode()
    while raw in data:
        data = data.replace(raw, chance.choice(_RAW_TOKENS).encode(), 1)
    return data


def _change_one(box: list[Any], chance: random.Random, seeds: list[bytes]) -> None:
    """Change one value somewhere in the tree in `box`, by a walk down from its root."""
    parent: Any = box
    key: Any = 0
    while isinstance(parent[key], dict | list) and parent[key] and chance.random() < 0.8:
        parent = parent[key]
        key = chance.choice(list(parent)) if isinstance(parent, dict) else chance.randrange(len(parent))
    at = chance.random()
    value = parent[key]
    if at < 0.35:
        parent[key] = _value(chance)
    elif at < 0.45:
        parent[key] = _RAW
    elif at < 0.55:
        parent[key] = _twisted(value, chance)
    elif at < 0.65 and parent is not box:
        del parent[key]
    elif at < 0.8 and isinstance(value, dict):
        value[chance.choice(_KEYS)] = _value(chance)
    elif at < 0.8 and isinstance(value, list):
        value.insert(chance.randint(0, len(value)), chance.choice(value) if value else _value(chance))
    elif at < 0.88 and isinstance(parent, dict):
        parent[chance.choice(_KEYS)] = parent.pop(key)
    elif at < 0.95:
        other = _tree(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            if isinstance(other, dict | list) and other:
                other = chance.choice(list(other.values()) if isinstance(other, dict) else other)
        parent[key] = None if other is _NONE else other
    else:
        for _ in range(chance.choice((1, 2, 60, 70))):
            value = [value] if chance.random() < 0.5 else {chance.choice(_KEYS): value}
        parent[key] = value


def _value(chance: random.Random) -> Any:
    # a copy: what is put into the tree is changed there
    return copy.deepcopy(chance.choice(_VALUES))


def _twisted(value: Any, chance: random.Random) -> Any:
    """A value near the given one."""
    if isinstance(value, bool):
        return chance.choice((not value, int(value), str(value)))
    if isinstance(value, int | float):
        return chance.choice((value + 1, value - 1, -value, value * 2, value // 2, str(value), [value]))
    if isinstance(value, str):
        at = chance.randint(0, len(value))
        return (
            value[:at] + chance.choice(("", "x", "\n", "\x00", "\ud800", "~", '"', "é", value)) + value[at:]
        )
    return [value]


def _message(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    """A Celery message: its envelope, or the JSON text in its body."""
    tree = _tree(data)
    if not isinstance(tree, dict) or not isinstance(tree.get("body"), str) or chance.random() < 0.3:
        return _json(data, chance, seeds)
    tree["body"] = _json(tree["body"].encode("utf-8", "surrogatepass"), chance, seeds).decode(
        "utf-8", "replace"
    )
    return _written(tree, chance)


def _lines(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    choice = chance.random()
    if choice < 0.6:
        lines[at] = _json(lines[at], chance, [line for seed in seeds for line in seed.split(b"\n")])
    elif choice < 0.75:
        lines.insert(at, chance.choice(chance.choice(seeds).split(b"\n")))
    elif choice < 0.85:
        del lines[at]
    elif choice < 0.95:
        lines[at] = chance.choice(
            (b"", b" ", b"\r", b"\xff", b"\xef\xbb\xbf", b"x" * 999, b"y" * 1001, b"\x00")
        )
    else:
        lines[at] += b'{"prompt": "' + b"z" * chance.choice((10, 980, 1000)) + b'"}'
    return b"\n".join(lines)


def _yaml(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    return (
        _json(data, chance, seeds)
        if data[:1] == b"{" and chance.random() < 0.3
        else _text(data, chance, seeds)
    )


def _text(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 3))):
        at, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        end = min(end, at + 12)
        choice = chance.random()
        if choice < 0.5:
            data = data[:at] + chance.choice(_WORDS).encode("utf-8", "surrogatepass") + data[at:]
        elif choice < 0.7:
            data = data[:at] + data[end:]
        elif choice < 0.85:
            data = data[:end] + data[at:end] * chance.choice((1, 2, 20)) + data[end:]
        else:
            other = chance.choice(seeds)
            start = chance.randint(0, len(other))
            data = data[:at] + other[start : start + 24] + data[end:]
    return data


def _bytes(data: bytes, chance: random.Random, seeds: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randint(0, len(changed))
        choice = chance.random()
        if choice < 0.4 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif choice < 0.6:
            changed[at:at] = bytes((chance.choice((0, 1, 10, 34, 92, 123, 127, 128, 195, 237, 255)),))
        elif choice < 0.8:
            del changed[at : at + chance.randint(1, 8)]
        else:
            other = chance.choice(seeds)
            start = chance.randint(0, len(other))
            changed[at : at + 4] = other[start : start + chance.randint(1, 32)]
    return bytes(changed)
