"""YAML files of settings as plain data: what JSON can say, each key once, secrets filled in.

A file may not be what it seems: aliases that multiply, tags, keys that are there twice and silently win.
Knows no catalogue and no policy.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from batchyard.errors import InvalidConfig, shown
from batchyard.jsonvalue import json_fault, printable

ENV_PREFIX = "os.environ/"
MAX_BYTES = 262_144
MAX_NODES = 100_000
"""Values that a file may stand for, aliases written out."""

_REMEDY = "correct the file"


class _Loader(yaml.SafeLoader):
    """YAML's safe types without dates, which JSON does not have: they stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # the base class's own
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(path: Path) -> object:
    """The plain data of a YAML file, with `os.environ/NAME` replaced from the environment.

    Raises:
        InvalidConfig: the file cannot be read, is no YAML, or names a variable that is not set.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise InvalidConfig(
            f"cannot read it: {exc.strerror}", field=str(path), remedy="name an existing file"
        ) from exc
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, source: str) -> object:
    """The same of a file's bytes; `source` names it in errors."""
    if len(data) > MAX_BYTES:
        raise InvalidConfig(
            f"has more than {MAX_BYTES:,} bytes", field=source, remedy="is it the right file? Split it if so"
        )
    try:
        value = _load(data.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise _no_yaml(f"byte {exc.start} is not UTF-8", source) from None
    except RecursionError:
        raise _no_yaml("it is nested too deeply", source) from None
    except yaml.YAMLError as exc:
        raise _no_yaml(" ".join(str(exc).split()), source) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        # what PyYAML makes of a value that its tag does not fit, such as !!int x or \U00110000
        raise _no_yaml(f"a value cannot be read: {type(exc).__name__}: {exc}", source) from None
    fault = json_fault(value, only_json=True)
    if fault is not None:
        where = printable(": ".join((source, *fault.path)), 300)
        raise InvalidConfig(fault.message, field=where, remedy=_REMEDY)
    return _filled(value, source)


def _load(text: str) -> object:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; those of a node that aliases name again are counted again.

    Raises:
        ValueError: too many, without end, or a key is there twice.
    """
    if id(node) in known:
        if known[id(node)] == 0:
            raise ValueError("an alias stands within what it names")
        return known[id(node)]
    known[id(node)] = 0
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_measure(child, known) for child in node.value)
    elif isinstance(node, yaml.MappingNode):
        keys: set[object] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise ValueError(f"the key {shown(key.value)} is there twice")
                keys.add((key.tag, key.value))
            size += _measure(key, known) + _measure(value, known)
    if size > MAX_NODES:
        raise ValueError(f"its aliases make more than {MAX_NODES:,} values of it")
    known[id(node)] = size
    return size


def _no_yaml(why: str, source: str) -> InvalidConfig:
    return InvalidConfig(printable(f"is no YAML: {why}"), field=source, remedy=_REMEDY)


def _filled(data: Any, where: str) -> Any:
    if isinstance(data, dict):
        # a key is left to the one process that uses it: the others neither have nor need it
        return {
            key: value if key == "api_key" else _filled(value, f"{where}: {str(key)[:40]}")
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [_filled(value, where) for value in data]
    if isinstance(data, str) and data.startswith(ENV_PREFIX):
        return _variable(data.removeprefix(ENV_PREFIX), printable(where, 300))
    return data


def _variable(name: str, where: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise InvalidConfig(
            f"the environment has no {printable(name, 80)}",
            field=where,
            remedy=f"set {printable(name, 80)}, or write the value",
        )
    if json_fault(value) is not None:
        raise InvalidConfig(
            f"the value of {printable(name, 80)} is not UTF-8", field=where, remedy="set it anew"
        )
    return value
