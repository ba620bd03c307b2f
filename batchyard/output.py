"""The form a job's answer must take."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator

from batchyard.errors import shown
from batchyard.jsonvalue import json_fault
from batchyard.sampling import Whole

_ROOT_RULE = re.compile(r"^\s*root\s*::=", re.MULTILINE)


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextOutput(_Form):
    """Free text."""

    type: Literal["text"]


class JsonSchemaOutput(_Form):
    """A JSON document valid under `schema` (draft 2020-12, the part that llama.cpp's grammars cover)."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any] | bool, Field(alias="schema")]

    @field_validator("schema_", mode="before")
    @classmethod
    def _is_schema(cls, schema: object) -> object:
        unfit = json_fault(schema, only_json=True)
        if unfit is not None:
            raise ValueError(f"{'.'.join(('schema', *unfit.path))}: {unfit.message}")
        fault = schema_fault(schema)
        if fault is not None:
            raise ValueError(fault)
        return schema


class GrammarOutput(_Form):
    """Text that a GBNF grammar accepts. It is parsed by llama.cpp itself, in the worker."""

    type: Literal["grammar"]
    grammar: Annotated[str, Field(min_length=1, max_length=65_536)]

    @field_validator("grammar")
    @classmethod
    def _has_root(cls, grammar: str) -> str:
        if _ROOT_RULE.search(grammar) is None:
            raise ValueError("a GBNF grammar needs a rule named root (root ::= …)")
        return grammar


class ChoicesOutput(_Form):
    """One of the given labels, with the probability of each.

    `prior: content_free` takes off what each label scores on the same chat with `N/A` as its last user
    message, for models that prefer some labels whatever the text. `length_normalization: mean` scores a label
    by its mean token instead of the sum, for labels of unequal length.
    """

    type: Literal["choices"]
    choices: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=2)]
    prior: Literal["content_free"] | None = None
    length_normalization: Literal["none", "mean"] = "none"

    @field_validator("choices")
    @classmethod
    def _bounded_and_distinct(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        if len(choices) > 200:
            raise ValueError("at most 200 choices")
        if len(set(choices)) != len(choices):
            raise ValueError("choices must differ from each other")
        return choices


class EmbeddingOutput(_Form):
    """A vector of the text: of length 1 with `normalize`, cut to its first `dimensions` numbers if given."""

    type: Literal["embedding"]
    normalize: StrictBool = True
    dimensions: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None


Output = Annotated[
    TextOutput | JsonSchemaOutput | GrammarOutput | ChoicesOutput | EmbeddingOutput,
    Field(discriminator="type"),
]

_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}
_SUBSCHEMAS = ("items", "additionalProperties", "not")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "$defs", "definitions")


def schema_fault(schema: object, path: str = "schema") -> str | None:
    """What makes `schema` no JSON Schema, in words, or None. Checks structure, not every keyword.

    Recurses: `json_fault` has bounded the depth before.
    """
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"{path} must be an object or a boolean, not {type(schema).__name__}"
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else [kinds]:
        if not isinstance(kind, str) or kind not in _TYPES:
            return f"{path}.type: {shown(kind)} is none of {', '.join(sorted(_TYPES))}"
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        return f"{path}.enum must be a list with at least one value"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return f"{path}.required must be a list of property names"
    return _subschema_fault(schema, path)


def _subschema_fault(schema: dict[str, Any], path: str) -> str | None:
    parts: list[tuple[str, object]] = [(f"{path}.{k}", schema[k]) for k in _SUBSCHEMAS if k in schema]
    for key in _SUBSCHEMA_LISTS:
        if key in schema and not isinstance(schema[key], list):
            return f"{path}.{key} must be a list of schemas"
        parts += [(f"{path}.{key}[{i}]", sub) for i, sub in enumerate(schema.get(key, []))]
    for key in _SUBSCHEMA_MAPS:
        if key in schema and not isinstance(schema[key], dict):
            return f"{path}.{key} must be an object of schemas"
        parts += [(f"{path}.{key}.{name}", sub) for name, sub in schema.get(key, {}).items()]
    for where, sub in parts:
        fault = schema_fault(sub, where)
        if fault is not None:
            return fault
    return None
