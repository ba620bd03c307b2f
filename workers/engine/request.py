"""What a caller asks of the engine: frozen values, parsed from a `submit` frame with errors that name the
field.

It does not know the model: whether a prompt fits or a token exists is decided later.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

from workers.engine.errors import (
    CHOICES_INVALID,
    GRAMMAR_INVALID,
    IMAGES_NOT_SUPPORTED,
    PROMPT_EMPTY,
    REQUEST_INVALID,
    SCHEMA_INVALID,
    EngineError,
)

LOWEST_PRIORITY: Final = 9
LOWEST_INTERACTIVE: Final = 2
"""Up to this priority somebody waits for the answer: such a job never gives way to another one."""
MAX_CHOICES: Final = 1000
MAX_LOGPROBS: Final = 100
MAX_STOPS: Final = 64
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Names and meaning are llama.cpp's; temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    @property
    def penalised(self) -> bool:
        """Whether earlier tokens change the logits of later ones."""
        return self.repeat_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


@dataclass(frozen=True, slots=True)
class TextOutput:
    """Free text."""


@dataclass(frozen=True, slots=True)
class SchemaOutput:
    """One JSON document that satisfies `schema`."""

    schema: Any


@dataclass(frozen=True, slots=True)
class GrammarOutput:
    """Text that the GBNF grammar derives from its rule `root`."""

    grammar: str


@dataclass(frozen=True, slots=True)
class ChoicesOutput:
    """A probability for each label instead of text.

    With `prior` what a label scores without content is taken off, with `mean` a score is that of a token.
    """

    choices: tuple[str, ...]
    prior: bool = False
    mean: bool = False
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddingOutput:
    """A vector instead of text: of length 1 with `normalize`, its first `dimensions` numbers if given."""

    normalize: bool = True
    dimensions: int | None = None


Output = TextOutput | SchemaOutput | GrammarOutput | ChoicesOutput | EmbeddingOutput


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by the SHA-256 of its file. It stands before character `at` of its message's text."""

    sha256: str
    at: int


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, its text parts joined; images stand where they were between them."""

    role: str
    content: str
    images: tuple[ImagePart, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One unit of work: either `messages` for the chat template or a raw `prompt`."""

    id: str
    messages: tuple[Message, ...] | None
    prompt: str | None
    sampling: Sampling = field(default_factory=Sampling)
    output: Output = field(default_factory=TextOutput)
    priority: int = 5
    deadline: float | None = None

    @property
    def interactive(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.priority <= LOWEST_INTERACTIVE

    @property
    def conversation(self) -> bool:
        """Whether there were turns before this one, so that more may follow."""
        return self.messages is not None and any(one.role == "assistant" for one in self.messages)

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """All images, in order."""
        return tuple(image for message in self.messages or () for image in message.images)

    @classmethod
    def parse(cls, frame: Any, *, images: bool = False) -> EngineRequest:
        """Read a port frame; `images` says whether the model sees. Raises EngineError with the field at
        fault.
        """
        if not isinstance(frame, dict):
            raise _invalid("request", "the request is not an object")
        request_id = frame.get("id")
        if not isinstance(request_id, str) or not request_id:
            raise _invalid("id", "id must be a non-empty string")
        messages, prompt = _parse_input(frame)
        if not images and any(message.images for message in messages or ()):
            raise EngineError(
                IMAGES_NOT_SUPPORTED,
                "the messages hold an image, but this model has no image encoder",
                field="messages",
                remedy="send the job to a model with an image encoder, or leave the image out",
            )
        priority = frame.get("priority", 5)
        if not _is_int(priority) or not 0 <= priority <= LOWEST_PRIORITY:
            raise _invalid(
                "priority",
                f"priority must be a whole number from 0 to {LOWEST_PRIORITY}, not {_shown(priority)}",
            )
        deadline, sampling, output = frame.get("deadline"), frame.get("sampling"), frame.get("output")
        return cls(
            id=request_id,
            messages=messages,
            prompt=prompt,
            sampling=Sampling() if sampling is None else _parse_sampling(sampling),
            output=TextOutput() if output is None else _parse_output(output),
            priority=priority,
            deadline=None if deadline is None else _number("deadline", deadline, 0.0, math.inf),
        )


def _parse_input(frame: dict[str, Any]) -> tuple[tuple[Message, ...] | None, str | None]:
    messages, prompt = frame.get("messages"), frame.get("prompt")
    if messages is not None and prompt is not None:
        raise _invalid("prompt", "give either messages or prompt, not both")
    if messages is None:
        if prompt is None or prompt == "":
            raise EngineError(PROMPT_EMPTY, "the prompt is empty", field="prompt", remedy="send some text")
        return None, _text("prompt", prompt)
    if not isinstance(messages, list):
        raise _invalid("messages", "messages must be a list")
    parsed = tuple(_parse_message(index, message) for index, message in enumerate(messages))
    if not any(message.content.strip() or message.images for message in parsed):
        raise EngineError(PROMPT_EMPTY, "no message has any text", field="messages", remedy="send some text")
    return parsed, None


def _parse_message(index: int, message: Any) -> Message:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise _invalid(where, f"{where} must be an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise _invalid(f"{where}.role", f"{where}.role must be a non-empty string")
    text, images = "", []
    for at, part in enumerate(content if isinstance(content, list) else ()):
        found, sha256 = _parse_part(f"{where}.content[{at}]", part)
        text += found
        if sha256 is not None:
            images.append(ImagePart(sha256, len(text)))
    if not isinstance(content, list):
        text = _text(f"{where}.content", "" if content is None else content)
    return Message(_text(f"{where}.role", role), text, tuple(images))


def _parse_part(where: str, part: Any) -> tuple[str, str | None]:
    """The text of a part, or the hash of its image."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return _text(where, part.get("text")), None
    if kind != "image":
        raise _invalid(where, f"{where} must have type text or image")
    sha256 = part.get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _invalid(f"{where}.sha256", f"{where}.sha256 must be the 64 hexadecimal digits of a SHA-256")
    return "", sha256


def _parse_sampling(frame: Any) -> Sampling:
    if not isinstance(frame, dict):
        raise _invalid("sampling", "sampling must be an object")
    default = Sampling()

    def number(name: str, low: float, high: float) -> float:
        value = frame.get(name)
        return (
            float(getattr(default, name)) if value is None else _number(f"sampling.{name}", value, low, high)
        )

    def whole(name: str, low: int, high: int) -> int:
        value = frame.get(name)
        return int(getattr(default, name)) if value is None else _whole(f"sampling.{name}", value, low, high)

    seed, logprobs = frame.get("seed"), frame.get("logprobs")
    return Sampling(
        max_tokens=whole("max_tokens", 1, 2**31 - 1),
        temperature=number("temperature", 0.0, 1000.0),
        top_k=max(0, whole("top_k", -1, 2**31 - 1)),
        top_p=number("top_p", 0.0, 1.0),
        min_p=number("min_p", 0.0, 1.0),
        typical_p=number("typical_p", 0.0, 1.0),
        # zero would turn every seen token's positive logit into infinity
        repeat_penalty=number("repeat_penalty", 1e-3, 1000.0),
        presence_penalty=number("presence_penalty", -1000.0, 1000.0),
        frequency_penalty=number("frequency_penalty", -1000.0, 1000.0),
        seed=None if seed is None else _whole("sampling.seed", seed, 0, 2**63 - 1),
        stop=_parse_stop(frame.get("stop")),
        logprobs=None if logprobs is None else _whole("sampling.logprobs", logprobs, 0, MAX_LOGPROBS),
    )


def _parse_stop(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    values = [stop] if isinstance(stop, str) else stop
    if not isinstance(values, list | tuple) or len(values) > MAX_STOPS:
        raise _invalid("sampling.stop", f"stop must be a list of at most {MAX_STOPS} strings")
    texts = tuple(_text(f"sampling.stop[{index}]", value) for index, value in enumerate(values))
    if "" in texts:
        raise _invalid("sampling.stop", "a stop string must not be empty: it would end every text at once")
    return texts


def _parse_output(frame: Any) -> Output:
    kind = frame.get("type") if isinstance(frame, dict) else None
    if kind == "text":
        return TextOutput()
    if kind == "json_schema":
        schema = frame.get("schema")
        if not isinstance(schema, dict | bool):
            raise EngineError(
                SCHEMA_INVALID, "a JSON schema is an object or a boolean", field="output.schema"
            )
        return SchemaOutput(schema)
    if kind == "grammar":
        grammar = frame.get("grammar")
        if not isinstance(grammar, str):
            raise EngineError(GRAMMAR_INVALID, "the grammar must be GBNF text", field="output.grammar")
        return GrammarOutput(grammar)
    if kind == "choices":
        return _parse_choices_output(frame)
    if kind == "embedding":
        return _parse_embedding(frame)
    raise _invalid(
        "output.type",
        f"output.type must be text, json_schema, grammar, choices or embedding, not {_shown(kind)}",
    )


def _parse_embedding(frame: dict[str, Any]) -> EmbeddingOutput:
    normalize, dimensions = frame.get("normalize", True), frame.get("dimensions")
    if not isinstance(normalize, bool):
        raise _invalid("output.normalize", f"normalize must be true or false, not {_shown(normalize)}")
    return EmbeddingOutput(
        normalize, None if dimensions is None else _whole("output.dimensions", dimensions, 1, 2**31 - 1)
    )


def _parse_choices_output(frame: dict[str, Any]) -> ChoicesOutput:
    choices = _parse_choices(frame.get("choices"))
    prior, normalization = frame.get("prior"), frame.get("length_normalization", "none")
    if prior not in (None, "content_free"):
        raise _invalid("output.prior", f"prior must be content_free or null, not {_shown(prior)}")
    if normalization not in ("none", "mean"):
        raise _invalid(
            "output.length_normalization",
            f"length_normalization must be none or mean, not {_shown(normalization)}",
        )
    temperature = _number("output.temperature", frame.get("temperature", 1.0), 1e-3, 1e3)
    return ChoicesOutput(choices, prior is not None, normalization == "mean", temperature)


def _parse_choices(choices: Any) -> tuple[str, ...]:
    def wrong(why: str) -> EngineError:
        return EngineError(CHOICES_INVALID, why, field="output.choices")

    if not isinstance(choices, list | tuple) or not 1 <= len(choices) <= MAX_CHOICES:
        raise wrong(f"choices must be a list of 1 to {MAX_CHOICES} labels")
    if not all(isinstance(label, str) and label for label in choices):
        raise wrong("every choice must be a non-empty string")
    if len(set(choices)) != len(choices):
        raise wrong("the choices repeat a label")
    return tuple(_text(f"output.choices[{index}]", label) for index, label in enumerate(choices))


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _invalid(where, f"{where} must be a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _invalid(
            where, f"{where} holds a lone surrogate at character {error.start}: it is no valid UTF-8"
        ) from None
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(where: str, value: Any, low: int, high: int) -> int:
    if not _is_int(value) or not low <= value <= high:
        raise _invalid(where, f"{where} must be a whole number from {low} to {high}, not {_shown(value)}")
    return int(value)


def _number(where: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(where, f"{where} must be a finite number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf  # a whole number that no float reaches
    if not math.isfinite(number):
        raise _invalid(where, f"{where} must be a finite number, not {_shown(value)}")
    if not low <= number <= high:
        raise _invalid(where, f"{where} must lie between {low:g} and {high:g}, not {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    """A value as it appears in a message, which it must not fill."""
    if _is_int(value) and value.bit_length() > 256:
        return f"an integer of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _invalid(where: str, why: str) -> EngineError:
    return EngineError(REQUEST_INVALID, why, field=where)
