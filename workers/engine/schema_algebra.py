"""How JSON schemas combine: which types one speaks of, several into one, and whether two can overlap.

Pure set logic over schemas; it knows no grammar.
"""

from __future__ import annotations

from typing import Any, Final

from workers.engine.schema_leaves import schema_error

ANNOTATIONS: Final = frozenset(
    ("title", "description", "default", "examples", "$comment", "$schema", "$id", "$defs", "definitions",
     "deprecated", "readOnly", "writeOnly", "$anchor", "discriminator")
)  # fmt: skip
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")


def kinds_of(schema: dict[str, Any]) -> list[str]:
    """The types a schema allows; without the keyword, the one its other keywords speak of."""
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return [kinds]
    if kinds:
        # every whole number is also a number: listing both would only be ambiguous
        return [kind for kind in kinds if kind != "integer" or "number" not in kinds]
    hints = {
        "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        "string": ("minLength", "maxLength", "pattern", "format"),
        "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
    found = [kind for kind, keywords in hints.items() if any(keyword in schema for keyword in keywords)]
    return found or [kind for kind in _TYPES if kind != "integer"]


def merge(parts: list[Any], place: str) -> dict[str, Any]:
    """One schema that all parts together mean; raises where two parts disagree on a keyword."""
    _check_closed([part for part in parts if isinstance(part, dict)], place)
    merged: dict[str, Any] = {}
    for part in parts:
        if part is True:
            continue
        if not isinstance(part, dict):
            raise schema_error(place, "false accepts no document")
        for key, value in part.items():
            if key == "properties" and key in merged:
                clash = [name for name in value if name in merged[key] and merged[key][name] != value[name]]
                if clash:
                    raise schema_error(place, f"the property {clash[0]!r} is described twice")
                merged[key] = merged[key] | value
            elif key == "required" and key in merged:
                merged[key] = list(dict.fromkeys([*merged[key], *value]))
            elif key in merged and merged[key] != value and key not in ANNOTATIONS:
                raise schema_error(place, f"the keyword {key} has two different values that must both hold")
            else:
                merged[key] = value
    return merged


def _check_closed(parts: list[dict[str, Any]], place: str) -> None:
    """What one part says of undeclared properties, or of further items, also holds for those that another
    part declares: side by side in one schema it no longer would.
    """
    for one in parts:
        for other in parts:
            if other is one:
                continue
            if one.get("additionalProperties", True) not in (True, {}):
                foreign = [
                    name for name in other.get("properties", {}) if name not in one.get("properties", {})
                ]
                if foreign:
                    raise schema_error(
                        f"{place}/additionalProperties",
                        f"the keyword additionalProperties in one part also holds for the property"
                        f" {foreign[0]!r} of another: declare all properties in one part",
                    )
            for keyword in ("items", "additionalItems"):
                leading = [part.get("prefixItems", part.get("items")) for part in (one, other)]
                if keyword in one and leading[0] != leading[1] and _leads(other):
                    raise schema_error(
                        f"{place}/{keyword}",
                        f"the keyword {keyword} in one part also holds for the leading items of another:"
                        " describe all items in one part",
                    )


def _leads(part: dict[str, Any]) -> bool:
    return "prefixItems" in part or isinstance(part.get("items"), list)


def disjoint(parts: list[Any]) -> bool:
    """Whether no document can satisfy two of the schemas: by type, by fixed values, or by a tag property."""
    for at, one in enumerate(parts):
        for other in parts[at + 1 :]:
            if not isinstance(one, dict) or not isinstance(other, dict) or not _pair_disjoint(one, other):
                return False
    return True


def _pair_disjoint(one: dict[str, Any], other: dict[str, Any]) -> bool:
    values, other_values = _fixed(one), _fixed(other)
    if values is not None and other_values is not None:
        return values.isdisjoint(other_values)
    if "type" in one and "type" in other:
        kinds, other_kinds = set(kinds_of(one)), set(kinds_of(other))
        numbers = {"integer", "number"}
        if not kinds & other_kinds and not (kinds & numbers and other_kinds & numbers):
            return True
    tags = set(one.get("required", [])) & set(other.get("required", []))
    return any(_tags_differ(one, other, tag) for tag in tags)


def _tags_differ(one: dict[str, Any], other: dict[str, Any], tag: str) -> bool:
    values = _fixed(one.get("properties", {}).get(tag))
    other_values = _fixed(other.get("properties", {}).get(tag))
    if values is None or other_values is None:
        return False
    return values.isdisjoint(other_values)


def _fixed(schema: Any) -> set[Any] | None:
    if not isinstance(schema, dict):
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return {_frozen(value) for value in values} if isinstance(values, list) else None


def _frozen(value: Any) -> Any:
    """A value that a set can hold; equal where the values are."""
    if isinstance(value, list):
        return ("list", *map(_frozen, value))
    if isinstance(value, dict):
        return frozenset((key, _frozen(part)) for key, part in value.items())
    return value
