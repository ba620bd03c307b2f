"""Whether a JSON value is a JSON schema that may be looked at further: its dialect, its keywords' values, and
where its references lead.

Nothing outside the schema is ever fetched. It knows no grammar.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

import jsonschema

from workers.engine.schema_leaves import schema_error

_NEWEST: Final = "https://json-schema.org/draft/2020-12/schema"
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema"
_DIALECTS: Final[dict[str, Any]] = {
    _NEWEST: jsonschema.Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    _DRAFT_7: jsonschema.Draft7Validator,
}
_NAMED: Final = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_LISTED: Final = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_SINGLE: Final = (
    "items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains",
    "propertyNames", "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip


def dialect(schema: Any) -> Any:
    """The jsonschema validator class of a schema's `$schema`, 2020-12 without one. Raises EngineError."""
    name = schema.get("$schema", _NEWEST) if isinstance(schema, dict) else _NEWEST
    found = _DIALECTS.get(name.rstrip("#")) if isinstance(name, str) else None
    if found is None:
        raise schema_error("#/$schema", f"only {', '.join(_DIALECTS)} are known, not {str(name)[:100]!r}")
    return found


def check_schema(schema: Any) -> None:
    """Raise EngineError (schema_invalid) unless the whole of `schema`, and all that its references name, is
    a schema of its dialect.
    """
    validator = dialect(schema)
    _check_keywords(validator, schema, "#")
    # the newer keywords mean nothing to draft-07, so its own check leaves their values unseen
    walk = _Walk(schema, _unseen(validator))
    walk.visit(schema, "#")
    while walk.targets:
        pointer, target = walk.targets.popitem()
        if id(target) not in walk.seen:
            _check_keywords(validator, target, pointer)
            walk.visit(target, pointer)


def resolve(root: Any, pointer: str, place: str) -> Any:
    """The sub-schema that a reference inside the schema names. Raises EngineError (schema_invalid)."""
    if pointer != "#" and not pointer.startswith("#/"):
        raise schema_error(
            f"{place}/$ref", f"only references inside the schema (#/...) are followed, not {pointer[:100]!r}"
        )
    found = root
    for part in unquote(pointer[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isascii() and key.isdigit() and len(key) < 7:
            found = found[int(key)] if int(key) < len(found) else None
        else:
            found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            raise schema_error(f"{place}/$ref", f"{pointer[:100]!r} names nothing in the schema")
    return found


def _check_keywords(validator: Any, schema: Any, place: str) -> None:
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        below = "".join(f"/{part}" for part in error.absolute_path)
        raise schema_error(f"{place}{below}", error.message[:300]) from error


def _unseen(validator: Any) -> frozenset[str]:
    if validator is jsonschema.Draft202012Validator:
        return frozenset()
    return frozenset({"prefixItems"} | ({"$defs"} if validator is jsonschema.Draft7Validator else set()))


class _Walk:
    """Visits every sub-schema once and collects what the references name."""

    def __init__(self, root: Any, unseen: frozenset[str]) -> None:
        self._root = root
        self._unseen = unseen
        self.seen: set[int] = set()
        self.targets: dict[str, Any] = {}

    def visit(self, schema: Any, place: str) -> None:
        if not isinstance(schema, dict) or id(schema) in self.seen:
            return
        self.seen.add(id(schema))
        if schema is not self._root:
            for keyword in ("$schema", "$id"):
                if keyword in schema:
                    raise schema_error(f"{place}/{keyword}", f"{keyword} is only known at the schema's top")
        if "prefixItems" in self._unseen and "prefixItems" in schema:
            raise schema_error(f"{place}/prefixItems", "the keyword needs draft 2020-12: leave out $schema")
        if "$ref" in schema:
            pointer = schema["$ref"]
            if not isinstance(pointer, str):
                raise schema_error(f"{place}/$ref", "a reference is a text")
            self.targets[pointer] = resolve(self._root, pointer, place)
        for keyword in _NAMED:
            if isinstance(schema.get(keyword), dict) and keyword not in self._unseen:
                for name, part in schema[keyword].items():
                    self.visit(part, f"{place}/{keyword}/{name}")
        for keyword in _LISTED:
            if isinstance(schema.get(keyword), list):
                for at, part in enumerate(schema[keyword]):
                    self.visit(part, f"{place}/{keyword}/{at}")
        for keyword in _SINGLE:
            self.visit(schema.get(keyword), f"{place}/{keyword}")
