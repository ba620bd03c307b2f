"""Messages into prompt tokens, so that no text of a user becomes a control token.

The chat template is rendered with the real texts, in which every control marker was first broken by a private
character. Markers that are whole in the rendered text therefore come from the template; they become their
tokens, and the text between them is tokenised without special parsing, after the private character was
taken out again. Other than tokenising the parts one by one, this keeps the tokens across the seams as the
model was trained on them. It knows templates and a vocabulary, not requests' other options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import jinja2
import jinja2.sandbox
import numpy as np
import numpy.typing as npt

from workers.engine.errors import PROMPT_EMPTY, PROMPT_TOO_LONG, TEMPLATE_FAILED, EngineError
from workers.engine.request import EngineRequest, Message

Tokens = npt.NDArray[np.int32]

_UNKNOWN: Final = 1 << 0
_CONTROL: Final = 1 << 3
_USER_DEFINED: Final = 1 << 4
_LSTRIP: Final = 1 << 7
_RSTRIP: Final = 1 << 8
_SPACES: Final = " \t\n\v\f\r"
# whatever the expressions of a template can raise inside the sandbox
_TEMPLATE_FAILURES: Final = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_REMEMBERED: Final = 256
_PRIVATE: Final = [chr(code) for code in range(0xE000, 0xE100)]


class TokenSource(Protocol):
    """What this module needs of a vocabulary."""

    size: int
    bos: int
    eos: int
    adds_bos: bool
    attributes: list[int]
    longest_piece: int

    def text_of(self, token: int) -> str:
        """The vocabulary's own name of a token."""

    def tokenise(self, text: str, *, special: bool = False) -> Tokens:
        """Token ids of a text."""


class PromptBuilder:
    """Turns requests into token arrays for one model. `capacity` is the number of cells of a slot."""

    def __init__(self, vocabulary: TokenSource, template: str | None, capacity: int) -> None:
        self._vocabulary = vocabulary
        self._capacity = capacity
        self._template = None if template is None else _compile(template)
        self._seen: dict[str, Tokens] = {}
        self._markers = _markers(vocabulary, template or "")
        self._pattern = _pattern(self._markers)
        self._longest = max((len(marker) for marker in self._markers), default=0)
        self._heads = {marker[:size] for marker in self._markers for size in range(1, len(marker))}
        self._tails = {marker[size:] for marker in self._markers for size in range(1, len(marker))}

    @property
    def has_template(self) -> bool:
        """Whether chat messages can be rendered."""
        return self._template is not None

    def build(self, request: EngineRequest) -> Tokens:
        """The prompt's tokens. Raises EngineError: prompt_empty, prompt_too_long, template_failed."""
        if request.messages is None:
            text = request.prompt or ""
            self._check_length(len(text.encode("utf-8")), "prompt")
            tokens = self._finish([self._vocabulary.tokenise(text)])
        else:
            size = sum(len(message.content.encode("utf-8")) for message in request.messages)
            self._check_length(size, "messages")
            tokens = self._render(request.messages)
        if len(tokens) + 1 > self._capacity:
            raise self._too_long(f"{len(tokens)}", request)
        return tokens

    def _check_length(self, size: int, where: str) -> None:
        # ten megabytes need not be tokenised to know that they do not fit
        least = -(-size // self._vocabulary.longest_piece)
        if least > self._capacity:
            raise _too_long(f"at least {least}", self._capacity, where)

    def _too_long(self, count: str, request: EngineRequest) -> EngineError:
        return _too_long(count, self._capacity, "prompt" if request.messages is None else "messages")

    def _render(self, messages: Sequence[Message]) -> Tokens:
        if self._template is None:
            raise EngineError(
                TEMPLATE_FAILED,
                "the model file carries no chat template",
                field="messages",
                remedy="set chat_format in the model catalogue, or send a raw prompt",
            )
        guard, cut = _unused(messages)
        guarded = [
            {"role": self._guard(one.role, guard, cut), "content": self._guard(one.content, guard, cut)}
            for one in messages
        ]
        text = render(self._template, guarded, self._vocabulary)
        return self._finish(self._tokenise(text, guard, cut))

    def _guard(self, text: str, guard: str, cut: str) -> str:
        """Break every marker inside `text`, and every beginning or end of one at its edges."""
        if self._pattern is not None:
            text = self._pattern.sub(lambda found: self._broken(found.group(), guard, cut), text)
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._heads:
                text = text[: len(text) - length + 1] + guard + text[len(text) - length + 1 :]
                break
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[:length] in self._tails:
                text = text[: length - 1] + guard + text[length - 1 :]
                break
        return text

    def _broken(self, marker: str, guard: str, cut: str) -> str:
        # the tokeniser reads user-defined tokens even without special parsing: those must be cut apart
        control = self._vocabulary.attributes[self._markers[marker]] & (_CONTROL | _UNKNOWN)
        return marker[0] + (guard if control else cut) + marker[1:]

    def _tokenise(self, text: str, guard: str, cut: str) -> list[Tokens]:
        parts = self._pattern.split(text) if self._pattern is not None else [text]
        out: list[Tokens] = []
        # the pattern has one group, so raw texts and markers alternate, raw texts at both ends
        for at, part in enumerate(parts):
            if at % 2:
                out.append(np.array([self._markers[part]], np.int32))
                continue
            raw = part.replace(guard, "")
            if at and self._attributes(parts[at - 1]) & _RSTRIP:
                raw = raw.lstrip(_SPACES)
            if at + 1 < len(parts) and self._attributes(parts[at + 1]) & _LSTRIP:
                raw = raw.rstrip(_SPACES)
            out.extend(self._tokens_of(piece) for piece in raw.split(cut) if piece)
        return out

    def _tokens_of(self, text: str) -> Tokens:
        """Tokens of a raw text; instructions come again with every job, so the last few texts are
        remembered.
        """
        known = self._seen.get(text)
        if known is None:
            known = self._vocabulary.tokenise(text)
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[text] = known
        return known

    def _attributes(self, marker: str) -> int:
        return self._vocabulary.attributes[self._markers[marker]]

    def _finish(self, parts: list[Tokens]) -> Tokens:
        tokens = np.concatenate(parts) if parts else np.empty(0, np.int32)
        bos = self._vocabulary.bos
        if self._vocabulary.adds_bos and (not len(tokens) or tokens[0] != bos):
            tokens = np.concatenate([np.array([bos], np.int32), tokens])
        if not len(tokens):
            raise EngineError(
                PROMPT_EMPTY, "the prompt has no tokens", field="prompt", remedy="send some text"
            )
        return np.ascontiguousarray(tokens, np.int32)


def render(template: jinja2.Template, messages: list[dict[str, str]], vocabulary: TokenSource) -> str:
    """Render a chat template up to the assistant's turn. Raises EngineError (template_failed)."""
    try:
        return template.render(
            messages=messages,
            add_generation_prompt=True,
            bos_token=vocabulary.text_of(vocabulary.bos) if vocabulary.bos >= 0 else "",
            eos_token=vocabulary.text_of(vocabulary.eos) if vocabulary.eos >= 0 else "",
            tools=None,
        )
    except _TEMPLATE_FAILURES as error:
        raise EngineError(
            TEMPLATE_FAILED,
            f"the chat template refused these messages: {error}",
            field="messages",
            remedy="check the roles and their order against the model's chat template",
        ) from error


def _compile(source: str) -> jinja2.Template:
    if "messages" not in source:
        raise EngineError(
            TEMPLATE_FAILED,
            f"the chat template {source[:40]!r} never uses messages",
            field="chat_format",
            remedy="give a whole Jinja template as chat_format, or null for the model's own",
        )
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise EngineError(
            TEMPLATE_FAILED,
            f"the chat template does not compile: {error}",
            field="chat_format",
            remedy="set a working Jinja template as chat_format in the model catalogue",
        ) from error


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _markers(vocabulary: TokenSource, template: str) -> dict[str, int]:
    """Texts that become a token of their own: all control tokens, and user-defined ones the template
    writes.
    """
    found: dict[str, int] = {}
    for token, attributes in enumerate(vocabulary.attributes):
        if attributes & (_CONTROL | _UNKNOWN | _USER_DEFINED):
            text = vocabulary.text_of(token)
            if len(text) > 1 and (attributes & (_CONTROL | _UNKNOWN) or text in template):
                found.setdefault(text, token)
    return found


def _pattern(markers: Mapping[str, int]) -> re.Pattern[str] | None:
    if not markers:
        return None
    longest_first = sorted(markers, key=len, reverse=True)
    return re.compile("(" + "|".join(re.escape(marker) for marker in longest_first) + ")")


def _unused(messages: Iterable[Message]) -> tuple[str, str]:
    """Two private-use characters that occur in no message."""
    text = "".join(message.role + message.content for message in messages)
    free = [character for character in _PRIVATE if character not in text]
    if len(free) < 2:
        raise EngineError(TEMPLATE_FAILED, "the messages use every private character", field="messages")
    return free[0], free[1]


def _too_long(count: str, capacity: int, where: str) -> EngineError:
    return EngineError(
        PROMPT_TOO_LONG,
        f"the prompt has {count} tokens; this model's slots hold {capacity}, one of them for the answer",
        field=where,
        remedy=f"shorten the text to {capacity - 1} tokens, or raise n_ctx in the model catalogue",
    )
