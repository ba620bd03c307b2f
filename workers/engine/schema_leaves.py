"""The leaves of a JSON schema as GBNF: literals, strings, numbers, and the rules every document uses.

It knows JSON's notation, not how schemas combine.
"""

from __future__ import annotations

import json
from typing import Any, Final

from workers.engine.errors import SCHEMA_INVALID, EngineError
from workers.engine.gbnf import MAX_REPEAT
from workers.engine.number_range import integer_range, number_range
from workers.engine.pattern import pattern_to_gbnf

_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_DATE: Final = (
    "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|[12][0-9]))"
)
_TIME: Final = (
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_FORMATS: Final = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
}
PRIMITIVES: Final = {
    "ws": r'| " " | "\n" [ \t]{0,20}',
    # a surrogate written as an escape would be half a character: d8 to df are left out
    "char": r'[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" unit)',
    # what . stands for: no line ends
    "dot": r'[^"\\\x7F\x00-\x1F\u0085\u2028\u2029] | "\\" ["\\/bft]',
    "unit": "[0-9a-cA-CeEfF] hex hex hex | [dD] [0-7] hex hex",
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "anyobject | anyarray | string | number | boolean | null",
    "anyobject": r'"{" ws (string ":" ws value ws ("," ws string ":" ws value ws)*)? "}"',
    "anyarray": r'"[" ws (value ws ("," ws value ws)*)? "]"',
}


def literal(value: Any) -> str:
    """A GBNF literal of a JSON value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def string_term(schema: dict[str, Any], place: str) -> str:
    """An expression for the strings a schema allows. Raises EngineError (schema_invalid)."""
    pattern = schema.get("pattern")
    form = _FORMATS.get(schema.get("format", ""))
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if pattern is not None or form is not None:
        name = "format" if pattern is None else "pattern"
        if least or most is not None:
            raise schema_error(
                place, f"{name} and a length bound cannot be enforced together: put the length in a pattern"
            )
        if pattern is not None and form is not None:
            raise schema_error(place, "pattern and format cannot be enforced together: leave out one of them")
        try:
            return rf'"\"" {pattern_to_gbnf(pattern or form or "")} "\""'
        except ValueError as error:
            raise schema_error(f"{place}/pattern", str(error)) from error
    if least > MAX_REPEAT:
        raise schema_error(f"{place}/minLength", f"more than {MAX_REPEAT} characters cannot be asked for")
    if most is None:
        return rf'"\"" char{{{least},}} "\""' if least else "string"
    if most < least:
        raise schema_error(place, f"maxLength {most} is below minLength {least}")
    # a shorter bound than the schema's is still within it
    return rf'"\"" char{{{least},{min(int(most), MAX_REPEAT)}}} "\""' if most else r'"\"\""'


def number_term(kind: str, schema: dict[str, Any], place: str) -> str:
    """An expression for the numbers a schema allows. Raises EngineError (schema_invalid)."""
    bounds: dict[str, float] = {str(key): schema[key] for key in _BOUNDS if key in schema}
    if not bounds:
        return kind
    try:
        return integer_range(bounds) if kind == "integer" else number_range(bounds)
    except ValueError as error:
        raise schema_error(place, str(error)) from error


def schema_error(place: str, why: str) -> EngineError:
    """The error for a schema that cannot be used, with the place inside it."""
    return EngineError(
        SCHEMA_INVALID,
        f"the JSON schema cannot be used: {why} (at {place})",
        field="output.schema",
        remedy="correct or simplify the schema",
    )
