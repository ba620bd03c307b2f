"""Messages into prompt tokens, so that no text of a user becomes a control token.

The chat template is rendered with the real texts, in which every control marker was first broken by a private
character. Markers that are whole in the rendered text therefore come from the template; they become their
tokens, and the text between them is tokenised without special parsing, after the private character was
taken out again. Other than tokenising the parts one by one, this keeps the tokens across the seams as the
model was trained on them. An image's place is a private character too, so nothing that a user writes makes
one. It knows templates and a vocabulary, not requests' other options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import jinja2
import jinja2.sandbox
import numpy as np
import numpy.typing as npt

from workers.engine.errors import PROMPT_EMPTY, PROMPT_TOO_LONG, TEMPLATE_FAILED, EngineError
from workers.engine.images import Image, Span
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


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's tokens, and the rows that stand in the place of those that are an image's placeholders."""

    tokens: Tokens
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class _Privates:
    """Private characters that no message uses: two that break markers, one that holds an image's place."""

    guard: str
    cut: str
    place: str


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

    def build(self, request: EngineRequest, images: Mapping[str, Image]) -> Prompt:
        """The prompt, with `images` by their hashes in their places.

        Raises EngineError: prompt_empty, prompt_too_long, template_failed.
        """
        if request.messages is None:
            text = request.prompt or ""
            self._check_length(len(text.encode("utf-8")), "prompt")
            prompt = self._finish([self._vocabulary.tokenise(text)])
        else:
            size = sum(len(message.content.encode("utf-8")) for message in request.messages)
            self._check_length(size, "messages")
            prompt = self._render(request.messages, [images[one.sha256] for one in request.images])
        if len(prompt.tokens) + 1 > self._capacity:
            rows = sum(len(span.rows) for span in prompt.spans)
            count = f"{len(prompt.tokens)}" if not rows else f"{len(prompt.tokens)} ({rows} of images)"
            raise self._too_long(count, request)
        return prompt

    def _check_length(self, size: int, where: str) -> None:
        # ten megabytes need not be tokenised to know that they do not fit
        least = -(-size // self._vocabulary.longest_piece)
        if least > self._capacity:
            raise _too_long(f"at least {least}", self._capacity, where)

    def _too_long(self, count: str, request: EngineRequest) -> EngineError:
        return _too_long(count, self._capacity, "prompt" if request.messages is None else "messages")

    def _render(self, messages: Sequence[Message], images: Sequence[Image]) -> Prompt:
        if self._template is None:
            raise EngineError(
                TEMPLATE_FAILED,
                "the model file carries no chat template",
                field="messages",
                remedy="set chat_format in the model catalogue, or send a raw prompt",
            )
        private = _unused(messages)
        guarded = [
            {"role": self._guard(one.role, private), "content": self._content(one, private)}
            for one in messages
        ]
        text = render(self._template, guarded, self._vocabulary)
        texts = text.split(private.place)
        if len(texts) != len(images) + 1:
            raise _misplaced(f"made {len(texts) - 1} of the messages' {len(images)} images")
        parts: list[Tokens | Image] = list(self._tokenise(texts[0], private))
        for image, behind in zip(images, texts[1:], strict=True):
            parts += [image, *self._tokenise(behind, private)]
        if images and not isinstance(parts[-1], np.ndarray):
            raise _misplaced("puts nothing behind the last image")
        return self._finish(parts)

    def _content(self, message: Message, private: _Privates) -> str:
        """The message's text, each piece of it guarded, with its images' places between."""
        ends = [image.at for image in message.images]
        pieces = zip([0, *ends], [*ends, len(message.content)], strict=True)
        return private.place.join(self._guard(message.content[start:end], private) for start, end in pieces)

    def _guard(self, text: str, private: _Privates) -> str:
        """Break every marker inside `text`, and every beginning or end of one at its edges."""
        if self._pattern is not None:
            text = self._pattern.sub(lambda found: self._broken(found.group(), private), text)
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._heads:
                text = text[: len(text) - length + 1] + private.guard + text[len(text) - length + 1 :]
                break
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[:length] in self._tails:
                text = text[: length - 1] + private.guard + text[length - 1 :]
                break
        return text

    def _broken(self, marker: str, private: _Privates) -> str:
        # the tokeniser reads user-defined tokens even without special parsing: those must be cut apart
        control = self._vocabulary.attributes[self._markers[marker]] & (_CONTROL | _UNKNOWN)
        return marker[0] + (private.guard if control else private.cut) + marker[1:]

    def _tokenise(self, text: str, private: _Privates) -> list[Tokens]:
        parts = self._pattern.split(text) if self._pattern is not None else [text]
        out: list[Tokens] = []
        # the pattern has one group, so raw texts and markers alternate, raw texts at both ends
        for at, part in enumerate(parts):
            if at % 2:
                out.append(np.array([self._markers[part]], np.int32))
                continue
            raw = part.replace(private.guard, "")
            if at and self._attributes(parts[at - 1]) & _RSTRIP:
                raw = raw.lstrip(_SPACES)
            if at + 1 < len(parts) and self._attributes(parts[at + 1]) & _LSTRIP:
                raw = raw.rstrip(_SPACES)
            out.extend(self._tokens_of(piece) for piece in raw.split(private.cut) if piece)
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

    def _finish(self, parts: Sequence[Tokens | Image]) -> Prompt:
        runs = [part.tokens if isinstance(part, Image) else part for part in parts]
        tokens = np.concatenate(runs) if runs else np.empty(0, np.int32)
        bos, shift = self._vocabulary.bos, 0
        if self._vocabulary.adds_bos and (not len(tokens) or tokens[0] != bos):
            tokens = np.concatenate([np.array([bos], np.int32), tokens])
            shift = 1
        if not len(tokens):
            raise EngineError(
                PROMPT_EMPTY, "the prompt has no tokens", field="prompt", remedy="send some text"
            )
        spans: list[Span] = []
        for part, run in zip(parts, runs, strict=True):
            if isinstance(part, Image):
                spans += [span.shifted(shift) for span in part.spans]
            shift += len(run)
        return Prompt(np.ascontiguousarray(tokens, np.int32), tuple(spans))


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


def _unused(messages: Iterable[Message]) -> _Privates:
    """Private-use characters that occur in no message."""
    text = "".join(message.role + message.content for message in messages)
    free = [character for character in _PRIVATE if character not in text]
    if len(free) < 3:
        raise EngineError(TEMPLATE_FAILED, "the messages use every private character", field="messages")
    return _Privates(*free[:3])


def _misplaced(why: str) -> EngineError:
    return EngineError(
        TEMPLATE_FAILED,
        f"the chat template {why}",
        field="messages",
        remedy="set a chat_format that writes every message's content once, with text behind it",
    )


def _too_long(count: str, capacity: int, where: str) -> EngineError:
    return EngineError(
        PROMPT_TOO_LONG,
        f"the prompt has {count} tokens; this model's slots hold {capacity}, one of them for the answer",
        field=where,
        remedy=f"shorten the text to {capacity - 1} tokens, or raise n_ctx in the model catalogue",
    )
