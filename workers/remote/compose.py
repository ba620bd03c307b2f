"""From a request to what the SDK is called with. Pure; what the endpoint cannot spell is an error here.

It knows no HTTP and no answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from batchyard.entry import OpenaiEntry
from workers.engine.errors import (
    CHOICES_INVALID,
    GRAMMAR_INVALID,
    REQUEST_INVALID,
    SCHEMA_INVALID,
    EngineError,
)
from workers.engine.grammar import check_grammar
from workers.engine.request import (
    ChoicesOutput,
    EngineRequest,
    GrammarOutput,
    Message,
    Sampling,
    SchemaOutput,
    TextOutput,
)
from workers.engine.schema import compile_schema
from workers.engine.schema_check import check_schema
from workers.remote.certainty import FOR_MARGIN
from workers.remote.dialect import SPELLINGS, Spelling
from workers.remote.labels import labels_grammar, labels_schema

TOP_OF_CHOICES: Final = 20
"""Alternatives a token that OpenAI's API reports at most."""
NO_IMAGES: Final[Mapping[str, bytes]] = MappingProxyType({})
_ENVELOPE_TOKENS: Final = 32
_NEUTRAL: Final[dict[str, float]] = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0}
"""The values with which an option does nothing, so that leaving it out says the same."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call. `chat`: of chat.completions, else of completions. `body` are the SDK's own arguments,
    `extra` the endpoint's. `document`: choices were asked for as a JSON document. `seed`: the one sent.
    """

    chat: bool
    body: dict[str, Any]
    extra: dict[str, Any]
    prompt_sha256: str
    seed: int | None
    document: bool = False


def compose(
    request: EngineRequest, entry: OpenaiEntry, drawn_seed: int, images: Mapping[str, bytes] = NO_IMAGES
) -> Question:
    """The call for a request; `drawn_seed` stands in where it has no seed. `images` are files by hash.

    Raises:
        EngineError: request_invalid, schema_invalid, grammar_invalid, choices_invalid.
    """
    spelling = SPELLINGS[entry.dialect]
    chat = request.messages is not None
    prompt: Any = request.prompt
    if request.messages is not None:
        prompt = [{"role": one.role, "content": _content(one, images)} for one in request.messages]
    body: dict[str, Any] = {"model": entry.model, "messages" if chat else "prompt": prompt}
    body |= _sampling(request, entry, drawn_seed)
    body[spelling.max_tokens if chat else "max_tokens"] = _max_tokens(request)
    body |= _logprobs(request, entry, chat=chat)
    extra = _options(request.sampling, spelling, entry.dialect)
    form, document = _form(request, spelling, entry.dialect, chat=chat)
    # the grammar of a dialect is no argument of the SDK's
    extra |= {key: value for key, value in form.items() if key != "response_format"}
    body |= {key: value for key, value in form.items() if key == "response_format"}
    return Question(chat, body, extra, _digest(prompt), body.get("seed"), document)


def _content(message: Message, images: Mapping[str, bytes]) -> str | list[dict[str, Any]]:
    """A message's text, or its texts and images in their order, the images as data URLs."""
    if not message.images:
        return message.content
    parts: list[dict[str, Any]] = []
    at = 0
    for image in message.images:
        parts += _text_part(message.content[at : image.at])
        parts.append({"type": "image_url", "image_url": {"url": _data_url(images[image.sha256])}})
        at = image.at
    return parts + _text_part(message.content[at:])


def _text_part(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _data_url(file: bytes) -> str:
    # the yard takes in PNG and JPEG alone
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"


def _digest(prompt: Any) -> str:
    text = json.dumps(prompt, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _sampling(request: EngineRequest, entry: OpenaiEntry, drawn_seed: int) -> dict[str, Any]:
    sampling = request.sampling
    choices = isinstance(request.output, ChoicesOutput)
    options: dict[str, Any] = {
        "temperature": 0.0 if choices else sampling.temperature,
        "top_p": sampling.top_p,
        "seed": drawn_seed if sampling.seed is None else sampling.seed,
    }
    if sampling.presence_penalty:
        options["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        options["frequency_penalty"] = sampling.frequency_penalty
    if sampling.stop and not choices:
        options["stop"] = list(sampling.stop)
    return {name: value for name, value in options.items() if name not in entry.drop_params}


def _max_tokens(request: EngineRequest) -> int:
    if isinstance(request.output, ChoicesOutput):
        # a token is at least a byte
        return max(len(label.encode("utf-8")) for label in request.output.choices) + _ENVELOPE_TOKENS
    return request.sampling.max_tokens


def _logprobs(request: EngineRequest, entry: OpenaiEntry, *, chat: bool) -> dict[str, Any]:
    wanted = request.sampling.logprobs
    if not entry.logprobs:
        if wanted is not None:
            raise EngineError(
                REQUEST_INVALID,
                "this endpoint is not asked for log-probabilities",
                field="sampling.logprobs",
                remedy="leave logprobs out, or set logprobs: true for the model if its endpoint has them",
            )
        return {}
    choices = isinstance(request.output, ChoicesOutput)
    count = TOP_OF_CHOICES if choices else max(FOR_MARGIN, wanted or 0)
    # the older API has one number for both
    return {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}


def _options(sampling: Sampling, spelling: Spelling, dialect: str) -> dict[str, Any]:
    """The options that OpenAI's API has not. One that the request sets and the dialect lacks is an error; at
    its default it is left out, since the request then need not have said anything.
    """
    options: dict[str, Any] = {}
    for name, neutral in _NEUTRAL.items():
        value = getattr(sampling, name)
        if name in spelling.options:
            options[spelling.options[name]] = value
        elif value not in (neutral, getattr(Sampling(), name)):
            raise EngineError(
                REQUEST_INVALID,
                f"an endpoint of the dialect {dialect} has no {name}",
                field=f"sampling.{name}",
                remedy="leave it out, or name the endpoint's own dialect in the model catalogue",
            )
    return options


def _form(
    request: EngineRequest, spelling: Spelling, dialect: str, *, chat: bool
) -> tuple[dict[str, Any], bool]:
    """The arguments that hold the answer to its form, and whether choices come as a document."""
    output = request.output
    if isinstance(output, TextOutput):
        return {}, False
    if isinstance(output, SchemaOutput):
        check_schema(output.schema)
        return _schema_form(output.schema, spelling, dialect, chat=chat), False
    if isinstance(output, GrammarOutput):
        # a server may die of a grammar that does not parse
        check_grammar(output.grammar)
        if spelling.grammar is None:
            raise _unspelled(dialect, GRAMMAR_INVALID, "a grammar", "output.grammar", "a json_schema")
        return {spelling.grammar: output.grammar}, False
    if isinstance(output, ChoicesOutput):
        _check_choices(output)
        if spelling.grammar is not None:
            return {spelling.grammar: labels_grammar(output.choices)}, False
        if spelling.schema is None or not chat:
            raise _unspelled(
                dialect, CHOICES_INVALID, "choices for a raw prompt", "output.choices", "messages"
            )
        return {"response_format": _response_format(labels_schema(output.choices), spelling.schema)}, True
    raise EngineError(
        REQUEST_INVALID,
        f"an endpoint gives no {type(output).__name__.removesuffix('Output').lower()}",
        field="output.type",
        remedy="send the job to a model that llama.cpp runs",
    )


def _check_choices(output: ChoicesOutput) -> None:
    for asked, field in ((output.prior, "output.prior"), (output.mean, "output.length_normalization")):
        if asked:
            raise EngineError(
                CHOICES_INVALID,
                "an endpoint picks a label and does not score them one by one",
                field=field,
                remedy="leave it out, or send the job to a model that llama.cpp runs",
            )


def _schema_form(schema: Any, spelling: Spelling, dialect: str, *, chat: bool) -> dict[str, Any]:
    if chat and spelling.schema is not None:
        return {"response_format": _response_format(schema, spelling.schema)}
    if spelling.grammar is not None:
        return {spelling.grammar: compile_schema(schema, whitespace=True)}
    raise _unspelled(dialect, SCHEMA_INVALID, "a schema for a raw prompt", "output.schema", "messages")


def _response_format(schema: Any, kind: str) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object", "schema": schema}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _unspelled(dialect: str, code: str, what: str, field: str, instead: str) -> EngineError:
    return EngineError(
        code,
        f"an endpoint of the dialect {dialect} takes no {what.removeprefix('a ')}",
        field=field,
        remedy=f"send {instead}, or name the endpoint's own dialect in the model catalogue",
    )
