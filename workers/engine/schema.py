"""A JSON schema into a GBNF grammar whose every text is a document that the schema accepts.

What cannot be enforced while tokens are drawn is refused by name, instead of being ignored and found out
later. The grammar may be stricter than the schema: properties come in the schema's order, undeclared ones
do not come. Without `whitespace` the text is compact: what is left to choose are its values, and everything
between them can be written without asking the model. It knows JSON Schema and GBNF, not models.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Final

from workers.engine.document import DocumentCheck
from workers.engine.errors import SCHEMA_INVALID, EngineError
from workers.engine.gbnf import MAX_REPEAT
from workers.engine.grammar import check_grammar
from workers.engine.schema_algebra import ANNOTATIONS, disjoint, kinds_of, merge
from workers.engine.schema_check import check_schema, resolve
from workers.engine.schema_leaves import PRIMITIVES, literal, number_term, schema_error, string_term

_REFUSED: Final = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
    "propertyNames", "contains", "multipleOf", "$dynamicRef", "$recursiveRef",
    "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
_MOST_PARTS: Final = 100
_LONGEST_SCHEMA: Final = 128 * 1024
_LONGEST_EXPANSION: Final = 4 * 1024 * 1024


def compile_schema(schema: Any, *, whitespace: bool = False) -> str:
    """The GBNF text, or EngineError (schema_invalid) naming the place and keyword at fault.

    `whitespace` allows spaces and line ends between JSON's parts.
    """
    try:
        text = json.dumps(schema, allow_nan=False)
        json.dumps(schema, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise schema_error("#", "it holds half a surrogate pair, which is no text") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise schema_error("#", f"it is no JSON: {error}") from error
    if len(text) > _LONGEST_SCHEMA:
        raise schema_error("#", f"it is longer than {_LONGEST_SCHEMA} characters")
    try:
        return _compile(text, whitespace)
    except EngineError as error:
        if error.code == SCHEMA_INVALID:
            raise
        raise schema_error("#", f"it compiles to a grammar that cannot run: {error.message}") from error
    except RecursionError as error:
        raise schema_error("#", "it is nested too deeply") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # what a stranger's schema may break in here must stay the stranger's problem
        raise schema_error("#", f"it cannot be read: {type(error).__name__}: {error}"[:300]) from error


@functools.lru_cache(maxsize=256)
def _compile(text: str, whitespace: bool) -> str:
    schema = json.loads(text)
    check_schema(schema)
    compiler = _Compiler(schema)
    grammar = compiler.grammar(compiler.expression(schema, "#"), whitespace=whitespace)
    check_grammar(grammar)
    return grammar


class _Compiler:
    """Walks one schema; every sub-schema becomes a rule or an inline expression."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._check: DocumentCheck | None = None
        self._written = 0

    def grammar(self, root: str, *, whitespace: bool) -> str:
        """The whole grammar text around a root expression, with only the primitives that are used."""
        rules = {"root": root} | self._rules
        if not whitespace:
            rules["ws"] = '""'
        texts = list(rules.values())
        todo = list(texts)
        while todo:
            words = set(_words(todo.pop()))
            for name in sorted(words & PRIMITIVES.keys() - rules.keys()):
                rules[name] = PRIMITIVES[name]
                todo.append(rules[name])
        return "\n".join(f"{name} ::= {text}" for name, text in rules.items()) + "\n"

    def _rule(self, text: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules[name] = text
        return name

    def expression(self, schema: Any, place: str) -> str:
        """A GBNF expression, safe to stand beside others."""
        text = self._expression(schema, place)
        # alternatives beside other keywords are written out each: a few levels of that fill any memory
        self._written += 16 + len(text)
        if self._written > _LONGEST_EXPANSION:
            raise schema_error(
                place, "its alternatives multiply beyond all bounds: put shared keywords inside"
            )
        return text

    def _expression(self, schema: Any, place: str) -> str:
        if schema is True or schema == {}:
            return "value"
        if schema is False:
            raise schema_error(place, "false accepts no document")
        for keyword in _REFUSED:
            if keyword in schema:
                raise schema_error(
                    f"{place}/{keyword}", f"the keyword {keyword} cannot be enforced while text is drawn"
                )
        if "$ref" in schema:
            return self._reference(schema, place)
        if "allOf" in schema:
            return self.expression(self._merged(schema, place), f"{place}/allOf")
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._alternatives(schema, keyword, place)
        if "const" in schema:
            return self._literals([schema["const"]], schema, place)
        if "enum" in schema:
            return self._literals(schema["enum"], schema, place)
        kinds = kinds_of(schema)
        if len(kinds) == 1:
            return self._typed(kinds[0], schema, place)
        return "(" + " | ".join(self._typed(kind, schema, place) for kind in kinds) + ")"

    def _reference(self, schema: dict[str, Any], place: str) -> str:
        pointer = schema["$ref"]
        siblings = {key: value for key, value in schema.items() if key != "$ref" and key not in ANNOTATIONS}
        if siblings:
            return self.expression(merge([resolve(self._root, pointer, place), siblings], place), place)
        if pointer not in self._references:
            name = f"ref{len(self._references)}"
            # named before its body is walked, so that a schema may contain itself
            self._references[pointer] = name
            self._rules[name] = ""
            self._rules[name] = self.expression(resolve(self._root, pointer, place), pointer)
        return self._references[pointer]

    def _merged(self, schema: dict[str, Any], place: str) -> dict[str, Any]:
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        parts = [self._expanded(part, place) for part in schema["allOf"]]
        if len(parts) > _MOST_PARTS:
            raise schema_error(f"{place}/allOf", f"it has more than {_MOST_PARTS} parts: put them into one")
        return merge([*parts, rest], place)

    def _expanded(self, part: Any, place: str) -> Any:
        for _ in range(32):
            if not isinstance(part, dict) or "$ref" not in part:
                return part
            beside = {key: value for key, value in part.items() if key not in ANNOTATIONS | {"$ref"}}
            target = resolve(self._root, part["$ref"], place)
            part = merge([target, beside], place) if beside else target
        raise schema_error(place, "references follow each other without end")

    def _alternatives(self, schema: dict[str, Any], keyword: str, place: str) -> str:
        shared = {key: value for key, value in schema.items() if key != keyword}
        constraining = {key: value for key, value in shared.items() if key not in ANNOTATIONS}
        parts = [self._expanded(part, place) for part in schema[keyword]]
        if keyword == "oneOf" and len(parts) > _MOST_PARTS:
            raise schema_error(f"{place}/oneOf", f"it has more than {_MOST_PARTS} alternatives: use anyOf")
        if keyword == "oneOf" and not disjoint(parts):
            raise schema_error(
                f"{place}/oneOf", "its alternatives may overlap, so exactly one cannot be enforced: use anyOf"
            )
        narrowed = [merge([part, constraining], place) for part in parts] if constraining else schema[keyword]
        texts = [
            self.expression(part, f"{place}/{keyword}/{at}")
            for at, part in enumerate(narrowed)
            if part is not False
        ]
        if not texts:
            raise schema_error(place, f"{keyword} has no alternative")
        return "(" + " | ".join(texts) + ")"

    def _literals(self, values: list[Any], schema: dict[str, Any], place: str) -> str:
        # beside const an enum is a keyword like any other
        rest = {key: value for key, value in schema.items() if key not in ANNOTATIONS | {"const"}}
        if "const" not in schema:
            del rest["enum"]
        if "pattern" in rest:
            raise schema_error(
                f"{place}/pattern", "pattern cannot stand beside enum or const: leave out one of them"
            )
        if rest:
            self._check = self._check or DocumentCheck(self._root, patterns_hold=False)
            values = [value for value in values if self._check.violation(value, rest) is None]
        if not values:
            raise schema_error(place, "none of its values satisfies its other keywords")
        return "(" + " | ".join(literal(value) for value in values) + ")"

    def _typed(self, kind: str, schema: dict[str, Any], place: str) -> str:
        if kind == "object":
            return self._object(schema, place)
        if kind == "array":
            return self._array(schema, place)
        if kind == "string":
            return string_term(schema, place)
        if kind in ("integer", "number"):
            return number_term(kind, schema, place)
        return kind

    def _object(self, schema: dict[str, Any], place: str) -> str:
        properties = dict(schema.get("properties", {}))
        required = list(dict.fromkeys(schema.get("required", [])))
        others = schema.get("additionalProperties", True)
        for name in required:
            if name not in properties:
                if others is False:
                    raise schema_error(
                        f"{place}/required", f"the property {name!r} is required but not allowed"
                    )
                properties[name] = others
        properties = {
            name: part for name, part in properties.items() if part is not False or name in required
        }
        least, most = int(schema.get("minProperties", 0)), schema.get("maxProperties", len(properties))
        if least > len(required) or most < len(properties):
            raise schema_error(
                place, "minProperties and maxProperties cannot be enforced beyond the required properties"
            )
        if not properties:
            return self._free_object(others, place) if "maxProperties" not in schema else '"{" ws "}"'
        members = [
            (
                f'{literal(name)} ":" ws {self._shared(part, f"{place}/properties/{name}")} ws',
                name in required,
            )
            for name, part in properties.items()
        ]
        return f'"{{" ws {self._members(members)} "}}"'

    def _shared(self, schema: Any, place: str) -> str:
        """An expression as a rule of its own: optional properties mention it twice."""
        text = self.expression(schema, place)
        return text if _is_name(text) else self._rule(text)

    def _members(self, members: list[tuple[str, bool]]) -> str:
        """Members in order, optional ones left out at will, a comma between those that are there.

        Built from the end: `first` is the rest when nothing was written yet, `later` when something was.
        """
        first, later = "", ""
        for text, needed in reversed(members):
            after = f" {later}" if later else ""
            here_first, here_later = f"{text}{after}", f'"," ws {text}{after}'
            if not needed:
                here_first = f"({here_first} | {first})" if first else f"({here_first})?"
                here_later = f"({here_later} | {later})" if later else f"({here_later})?"
            first, later = self._rule(here_first), self._rule(here_later)
        return first

    def _free_object(self, others: Any, place: str) -> str:
        if others is False:
            return '"{" ws "}"'
        if others is True or others == {}:
            return "anyobject"
        value = self._shared(others, f"{place}/additionalProperties")
        return f'"{{" ws (string ":" ws {value} ws ("," ws string ":" ws {value} ws)*)? "}}"'

    def _array(self, schema: dict[str, Any], place: str) -> str:
        leading = schema.get("prefixItems", [])
        items = schema.get("items", True)
        if isinstance(items, list):
            leading, items = items, schema.get("additionalItems", True)
        # 2.0 is a whole number too
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        most = None if most is None else int(most)
        if items is False:
            most = len(leading) if most is None else min(most, len(leading))
        if most is not None and most < least:
            raise schema_error(place, f"maxItems {most} is below minItems {least}")
        if schema.get("uniqueItems") and (most is None or most > 1):
            raise schema_error(
                f"{place}/uniqueItems", "the keyword uniqueItems cannot be enforced while text is drawn"
            )
        if least > MAX_REPEAT:
            raise schema_error(f"{place}/minItems", f"more than {MAX_REPEAT} items cannot be asked for")
        if most == 0:
            return '"[" ws "]"'
        if leading:
            return self._tuple(leading, items, least, most, place)
        item = self._shared(items, f"{place}/items")
        least_more, most_more = max(0, least - 1), "" if most is None else min(most, MAX_REPEAT) - 1
        inside = f'{item} ws ("," ws {item} ws){{{least_more},{most_more}}}'
        return f'"[" ws {inside} "]"' if least else f'"[" ws ({inside})? "]"'

    def _tuple(self, leading: list[Any], items: Any, least: int, most: int | None, place: str) -> str:
        """Items with schemas of their own, then the rest: as long a part of them as the schema asks for."""
        count = len(leading) if most is None else min(most, len(leading))
        rest = ""
        if items is not False and (most is None or most > count):
            item = self._shared(items, f"{place}/items")
            limit = "" if most is None else str(min(most - count, MAX_REPEAT))
            rest = f'("," ws {item} ws){{{max(0, least - count)},{limit}}}'
        for at in range(count - 1, -1, -1):
            comma = '"," ws ' if at else ""
            text = f"{comma}{self._shared(leading[at], f'{place}/prefixItems/{at}')} ws {rest}".rstrip()
            rest = text if at < least else f"({text})?"
        return f'"[" ws {rest} "]"'


def _words(text: str) -> list[str]:
    """Rule names mentioned in an expression; a few words inside literals come along and do no harm."""
    return "".join(
        character if character.isalnum() or character == "-" else " " for character in text
    ).split()


def _is_name(text: str) -> bool:
    return text.isalnum()
