"""From a `submit` frame to the tokens of a text to embed: everything that can be wrong is found here.

It knows the model's words and limits, not who else waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.engine.embedding_loader import EmbeddingRuntime
from workers.engine.errors import (
    OUTPUT_NOT_SUPPORTED,
    PROMPT_EMPTY,
    PROMPT_TOO_LONG,
    REQUEST_INVALID,
    EngineError,
)
from workers.engine.request import EmbeddingOutput, EngineRequest

Tokens = npt.NDArray[np.int32]

_HEAD: Final = 16
"""Characters of a text, for each token that fits, that are tokenised before the rest is."""
_SLACK: Final = 16


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text on its way to its vector. `arrived` is in seconds on the engine's clock."""

    request: EngineRequest
    output: EmbeddingOutput
    tokens: Tokens
    arrived: float


class EmbeddingIntake:
    """Prepares requests for one embedding model."""

    def __init__(self, runtime: EmbeddingRuntime) -> None:
        self._runtime = runtime
        # the tokenizer's own frame around no text at all
        self._frame = len(runtime.vocabulary.tokenise("", framed=True))

    def prepare(self, frame: Any, now: float) -> Embedding:
        """Raises EngineError with the field at fault."""
        request = EngineRequest.parse(frame)
        output = request.output
        if not isinstance(output, EmbeddingOutput):
            raise EngineError(
                OUTPUT_NOT_SUPPORTED,
                f"the model {self._runtime.settings.model_name!r} makes embeddings and generates no text",
                field="output.type",
                remedy='ask for {"type": "embedding"}, or send the job to a model that generates',
            )
        facts = self._runtime.context.facts
        if output.dimensions is not None and output.dimensions > facts.width:
            raise EngineError(
                REQUEST_INVALID,
                f"dimensions must be from 1 to {facts.width}, this model's, not {output.dimensions}",
                field="output.dimensions",
                remedy=f"ask for {facts.width} dimensions or fewer, or leave it out for all",
            )
        field = "prompt" if request.messages is None else "messages"
        return Embedding(request, output, self._tokens(_text(request), field), now)

    def _tokens(self, text: str, field: str) -> Tokens:
        self._check_head(text, field)
        tokens = self._runtime.vocabulary.tokenise(text, framed=True)
        facts = self._runtime.context.facts
        if len(tokens) <= self._frame:
            raise EngineError(
                PROMPT_EMPTY, "the text has no tokens to embed", field=field, remedy="send some text"
            )
        if len(tokens) > facts.prompt:
            raise self._too_long(f"{len(tokens)}", field)
        return tokens

    def _check_head(self, text: str, field: str) -> None:
        """Ten megabytes need not be tokenised to know that they do not fit: their beginning says it.

        Their bytes alone do not, for an encoder's words may be of any length, and spaces cost it nothing.
        """
        most = self._runtime.context.facts.prompt
        head = text[: _HEAD * most]
        if len(head) == len(text):
            return
        # cut before a word, and a little more asked for, in case it ends in other tokens here than there
        words = head.rsplit(None, 1)
        least = len(self._runtime.vocabulary.tokenise(words[0])) if words else 0
        if least > most + _SLACK:
            raise self._too_long(f"at least {least}", field)

    def _too_long(self, count: str, field: str) -> EngineError:
        facts = self._runtime.context.facts
        return EngineError(
            PROMPT_TOO_LONG,
            f"the text has {count} tokens, at most {facts.prompt} fit ({facts.bound})",
            field=field,
            remedy=f"split the text into parts of at most {facts.prompt - self._frame} tokens"
            + (f", or raise {facts.bound} in the model catalogue" if facts.raisable else ""),
        )


def _text(request: EngineRequest) -> str:
    if request.messages is None:
        return request.prompt or ""
    return "\n".join(message.content for message in request.messages)
