"""The tokenizer of a GGUF, given to a model with random weights: copied, filled up, made endless.

A model with random weights would end its texts at random; a benchmark sets their length instead. So the file
itself has no end that could be drawn, which costs none of the engines anything, while asking each for a ban
of its end (`ignore_eos`, a logit bias) would be other work in each. It knows tokens, no weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

ENDING_KEYS = frozenset(
    f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom", "padding", "separator", "mask")
)
_TOKENS, _TYPES, _SCORES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores"))
_SIZED = {_TOKENS, _TYPES, _SCORES}
_END_NAMES = ("<|end|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>")


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a GGUF: its value, its type, and the type of its items if it is an array."""

    value: Any
    kind: Any
    item_kind: Any | None = None


Fields = dict[str, Field]


def read_fields(path: Path) -> Fields:
    """All keys of a GGUF but those of the file format itself."""
    found = {}
    for name, field in gguf.GGUFReader(path).fields.items():
        if not name.startswith("GGUF."):
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            found[name] = Field(field.contents(), field.types[0], field.types[-1] if is_array else None)
    return found


def add_fields(writer: gguf.GGUFWriter, fields: Mapping[str, Field]) -> None:
    """Write keys as they were read; the architecture is the writer's own."""
    for name, field in fields.items():
        if name != "general.architecture":
            writer.add_key_value(name, field.value, field.kind, sub_type=field.item_kind)


def tokenizer_of(fields: Mapping[str, Field]) -> Fields:
    """The keys of the tokenizer alone."""
    return {name: field for name, field in fields.items() if name.startswith("tokenizer.")}


def filled_up(fields: Mapping[str, Field], size: int) -> Fields:
    """A tokenizer with `size` tokens: those it has, then words that no text is split into.

    Raises ValueError for a tokenizer that has more.
    """
    tokens = list(fields[_TOKENS].value)
    if len(tokens) > size:
        raise ValueError(f"the tokenizer has {len(tokens)} tokens, the shape {size}; choose another --vocab")
    taken = set(tokens)
    more = (name for number in range(2 * size) if (name := f"Ġw{number:x}") not in taken)
    missing = size - len(tokens)
    values = {
        _TOKENS: tokens + [next(more) for _ in range(missing)],
        _TYPES: [*fields[_TYPES].value, *[int(gguf.TokenType.NORMAL)] * missing],
    }
    if _SCORES in fields:
        # the worst score: a merge that yields such a word is never the best one
        values[_SCORES] = [*fields[_SCORES].value, *[-1e9] * missing]
    return {
        name: Field(values[name], field.kind, field.item_kind) if name in values else field
        for name, field in fields.items()
    }


def ending_tokens(fields: Mapping[str, Field]) -> frozenset[int]:
    """Ids of tokens that may end a text: those named so by a key, and those llama.cpp knows by their text."""
    named = {int(field.value) for name, field in fields.items() if name in ENDING_KEYS}
    known = {number for number, token in enumerate(fields[_TOKENS].value) if token in _END_NAMES}
    return frozenset(named | known)


def endless(fields: Mapping[str, Field]) -> Fields:
    """The same keys, but no token ends a text: ends get a name that llama.cpp does not know, and the keys
    name the padding token, which a trained model does not draw."""
    names = dict.fromkeys(_END_NAMES)
    tokens = [
        f"<|after{number}|>" if token in names else token
        for number, token in enumerate(fields[_TOKENS].value)
    ]
    padding = fields["tokenizer.ggml.padding_token_id"].value
    changed: Fields = {}
    for name, field in fields.items():
        if name == _TOKENS:
            changed[name] = Field(tokens, field.kind, field.item_kind)
        elif name in ENDING_KEYS:
            changed[name] = Field(padding, field.kind)
        elif name == "tokenizer.chat_template":
            template = str(field.value)
            for number, token in enumerate(fields[_TOKENS].value):
                if token in names:
                    template = template.replace(token, f"<|after{number}|>")
            changed[name] = Field(template, field.kind)
        else:
            changed[name] = field
    return changed
