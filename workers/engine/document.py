"""Checks JSON documents against a schema with a second, independent reading of it: the net below the grammar.

Its cost stays in proportion to document and schema, whatever the schema says: sub-schemas are tried once
per value, and regular expressions, which Python may take for ever to match, are never run. It fetches
nothing. It knows no grammar and no tokens.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import jsonschema.validators
import referencing

from workers.engine.errors import SCHEMA_INVALID, EngineError
from workers.engine.schema_check import dialect, resolve
from workers.engine.schema_leaves import schema_error

Errors = Iterator[jsonschema.ValidationError]


class DocumentCheck:
    """One schema, checked already. With `patterns_hold` a string is taken to match its `pattern`, as the
    grammar has made it do; otherwise meeting one is an EngineError (schema_invalid).
    """

    def __init__(self, root: Any, *, patterns_hold: bool) -> None:
        base = dialect(root)
        self._root = root
        self._patterns_hold = patterns_hold
        self._base: dict[str, Any] = dict(base.VALIDATORS)
        self._tried: dict[tuple[int, int], bool] = {}
        own = {
            "$ref": self._reference,
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "pattern": self._pattern,
            "patternProperties": self._unmatchable,
            "unevaluatedProperties": self._unmatchable,
            "unevaluatedItems": self._unmatchable,
            "additionalProperties": self._additional,
            "$dynamicRef": self._unmatchable,
            "$recursiveRef": self._unmatchable,
        }
        # without $schema and $id, which would bring back the plain class or move the base of references
        plain = root
        if isinstance(root, dict):
            plain = {key: value for key, value in root.items() if key not in ("$schema", "$id")}
        extend: Any = jsonschema.validators.extend
        self._validator: Any = extend(base, own)(plain, registry=referencing.Registry())

    def violation(self, value: Any, part: Any = None) -> str | None:
        """What is wrong with a value under the schema, or under one part of it; None when nothing is.

        Raises EngineError (schema_invalid) for what cannot be checked.
        """
        self._tried.clear()
        validator = self._validator if part is None else self._validator.evolve(schema=part)
        try:
            error = next(validator.iter_errors(value), None)
        except RecursionError as deep:
            raise schema_error("#", "a document is nested too deeply to be checked") from deep
        finally:
            self._tried.clear()
        return None if error is None else f"{error.message[:300]} (at {error.json_path})"

    def _fits(self, validator: Any, part: Any, value: Any) -> bool:
        # both live as long as the check, so that their addresses name them
        key = (id(part), id(value))
        if key not in self._tried:
            self._tried[key] = next(validator.evolve(schema=part).iter_errors(value), None) is None
        return self._tried[key]

    def _reference(self, validator: Any, pointer: str, value: Any, schema: Any) -> Errors:
        target = resolve(self._root, pointer, "#")
        if target is self._root:
            target = self._validator.schema
        if not self._fits(validator, target, value):
            yield jsonschema.ValidationError(f"it does not fit {pointer}")

    def _any_of(self, validator: Any, parts: list[Any], value: Any, schema: Any) -> Errors:
        if not any(self._fits(validator, part, value) for part in parts):
            yield jsonschema.ValidationError("it fits no alternative of anyOf")

    def _one_of(self, validator: Any, parts: list[Any], value: Any, schema: Any) -> Errors:
        fitting = sum(self._fits(validator, part, value) for part in parts)
        if fitting != 1:
            yield jsonschema.ValidationError(f"it fits {fitting} alternatives of oneOf")

    def _pattern(self, validator: Any, pattern: str, value: Any, schema: Any) -> Errors:
        if not self._patterns_hold and isinstance(value, str):
            raise schema_error("#", "pattern cannot stand beside enum or const: leave out the values or it")
        return iter(())

    def _unmatchable(self, validator: Any, keyword: Any, value: Any, schema: Any) -> Errors:
        raise schema_error(
            "#", "patternProperties, unevaluated... and $dynamicRef cannot stand beside enum or const"
        )

    def _additional(self, validator: Any, others: Any, value: Any, schema: Any) -> Errors:
        if "patternProperties" in schema:
            return self._unmatchable(validator, others, value, schema)
        found: Errors = self._base["additionalProperties"](validator, others, value, schema)
        return found


def read_document(text: str, schema: Any) -> Any:
    """The document that `text` is. Raises EngineError (schema_invalid) when it does not fit its schema."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unfit(f"it is no JSON document: {error}") from error
    try:
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:  # 1e999 and "\\ud800" are read, and could not be handed on
        raise _unfit(f"it holds what no JSON can carry: {error}"[:300]) from error
    why = _check_of(json.dumps(schema)).violation(document)
    if why is not None:
        raise _unfit(why)
    return document


@functools.lru_cache(maxsize=256)
def _check_of(schema: str) -> DocumentCheck:
    return DocumentCheck(json.loads(schema), patterns_hold=True)


def _unfit(why: str) -> EngineError:
    return EngineError(
        SCHEMA_INVALID,
        f"the model's document does not fit its JSON schema, which the grammar could not hold: {why}",
        field="output.schema",
        remedy="simplify the schema, and send no stop strings with it",
    )
