"""How the time of a parser grows with its input: twice the size may cost twice the time, not four times.

Measured in processor time, so a machine that is busy otherwise changes little; part of the long form alone.
"""

import json
import time
from collections.abc import Callable

from tests.fuzz.oracle import limited
from tests.fuzz.targets import TARGETS

_MOST = 3.0
"""Twice the input may take so many times as long (four would be quadratic)."""
_LEAST_SECONDS = 0.05
"""Shorter times say nothing."""
_SIZES = [1 << power for power in range(8, 18)]


def _json(make: Callable[[int], object]) -> Callable[[int], bytes]:
    return lambda n: json.dumps(make(n)).encode()


def _schema(make: Callable[[int], object]) -> Callable[[int], bytes]:
    return _json(lambda n: make(min(n, 8192)))


PUMPS: list[tuple[str, str, Callable[[int], bytes]]] = [
    ("job", "prompt", _json(lambda n: {"prompt": "\u00e9" * n})),
    ("job", "messages", _json(lambda n: {"messages": [{"role": "user", "content": "x"}] * n})),
    ("job", "parts", _json(lambda n: {"messages": [{"role": "user", "content": [{"type": "text",
    "text": ""}] * n}]})),
    ("job", "metadata keys", _json(lambda n: {"prompt": "x", "metadata": {f"k{i}": i for i in range(n)}})),
    ("job", "unknown keys", _json(lambda n: {f"k{i}": i for i in range(n)})),
    ("job", "a long unknown key", _json(lambda n: {"prompt": "x", "p" * n: 1})),
    ("job", "a long tag", _json(lambda n: {"prompt": "x", "output": {"type": "t" * n}})),
    ("job", "choices", _json(lambda n: {"prompt": "x", "output": {"type": "choices", "choices": [*map(str,
    range(n))]}})),
    ("job", "the same key", lambda n: b'{"prompt":"x",' + b",".join(b'"k":1' for _ in range(n)) + b"}"),
    ("job", "nested", lambda n: b'{"metadata":' + b'{"a":' * n + b"1" + b"}" * (n + 1)),
    ("job", "digits", lambda n: b'{"prompt":"x","deadline":' + b"9" * n + b"}"),
    ("batch", "lines", lambda n: b'{"prompt":"x"}\n' * min(n, 1 << 14)),
    ("batch", "bad lines", lambda n: b"x\n" * min(n, 1 << 15)),
    ("batch", "a long line", lambda n: b"x" * n * 8),
    ("yaml", "list", lambda n: b"- x\n" * min(n, 1 << 13)),
    ("yaml", "keys", lambda n: b"".join(b"k%d: 1\n" % i for i in range(min(n, 1 << 12)))),
    ("yaml", "nested", lambda n: b"[" * n),
    ("yaml", "aliases", lambda n: b"a: &a [1, 1, 1, 1]\nb: [" + b"*a, " * min(n, 1 << 12) + b"]\n"),
    ("yaml", "merges", lambda n: b"a: &a {b: 1}\n" + b"".join(b"k%d:\n  <<: *a\n" % i for i in range(min(n,
    1 << 11)))),
    ("policy", "rules", _json(lambda n: {
        "version": "1", "default": {"task": "t", "model": "m"},
        "rules": [{"name": f"r{i}", "task": "t", "when": {"tenant": ["x"]}} for i in range(min(n, 1 << 13))],
    })),
    ("catalogue", "models", _json(lambda n: {
        "model_list": [{"model_name": f"m{i}", "model_path": "x"} for i in range(min(n, 1 << 13))],
        "task_list": [{"task": "t"}],
    })),
    ("message", "headers", _json(lambda n: {
        "body": "[]", "headers": {f"h{i}": i for i in range(n)},
        "properties": {"delivery_tag": "x", "delivery_info": {}},
    })),
    ("request", "messages", _json(lambda n: {"id": "a", "messages": [{"role": "user", "content": "x"}] * n})),
    ("request", "parts", _json(lambda n: {
        "id": "a", "messages": [{"role": "user", "content": [{"type": "text", "text": "xy"}] * n}],
    })),
    ("request", "choices", _json(lambda n: {
        "id": "a", "prompt": "x", "output": {"type": "choices", "choices": [*map(str, range(min(n, 1000)))]},
    })),
    ("schema", "properties", _schema(lambda n: {
        "type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(min(n, 900))},
    })),
    ("schema", "enum", _schema(lambda n: {"enum": [*range(n)]})),
    ("schema", "alternatives", _schema(lambda n: {"anyOf": [{"const": i} for i in range(n)]})),
    ("schema", "all of", _schema(lambda n: {"allOf": [{"properties": {f"p{i}": {}}} for i in range(n)]})),
    ("schema", "pattern", _schema(lambda n: {"type": "string", "pattern": "^" + "[a-z]" * min(n,
    800) + "$"})),
    ("gbnf", "alternatives", lambda n: b'root ::= "a"' + b' | "b"' * min(n, 1 << 15)),
    ("gbnf", "rules", lambda n: b"root ::= r0\n" + b"".join(b"r%d ::= [a]\n" % i for i in range(min(n,
    2000)))),
    ("gbnf", "a literal", lambda n: b'root ::= "' + b"a" * min(n, 1 << 16) + b'"'),
    ("gbnf", "classes", lambda n: b"root ::= " + b"".join(b"[\\u%04x-\\u%04x] " % (i,
    i + 99) for i in range(256, 256 + min(n, 4000)))),
    ("frames", "small frames", lambda n: b"\x00\x00\x00\x02{}" * n),
    ("result", "keys", _json(lambda n: {"status": "SUCCESS",
    "result": {"metadata": {f"k{i}": i for i in range(n)}}})),
    ("rows", "bad rows", lambda n: b"x\n" * n),
    ("image", "markers", lambda n: b"\xff\xd8" + b"\xff\xe0\x00\x02" * n + b"\xff\xd9"),
]  # fmt: skip


def check_growth() -> int:
    """Measure every pump up to its largest size; returns 1 if one grows faster than its input."""
    bad = 0
    for name, what, make in PUMPS:
        before, before_size, worst = 0.0, 1, 0.0
        for size in _SIZES:
            data = make(size)
            if len(data) < 1.5 * before_size:
                break  # the parser's own limit is reached
            taken = min(_seconds(name, data) for _ in range(2))
            if before >= _LEAST_SECONDS:
                worst = max(worst, (taken / before) / (len(data) / before_size) * 2)
            before, before_size = taken, len(data)
        verdict = "grows faster than its input" if worst > _MOST else "ok"
        bad += worst > _MOST
        print(
            f"{name:<10} {what:<20} {before_size:>10,} bytes {before:>7.3f} s  x{worst:.1f} for twice"
            f"  {verdict}"
        )
    return 1 if bad else 0


def _seconds(name: str, data: bytes) -> float:
    began = time.process_time()
    limited(TARGETS[name], data, 60.0)
    return time.process_time() - began
