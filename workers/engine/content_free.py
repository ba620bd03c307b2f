"""A chat without its content: what is asked of a model to learn which labels it prefers whatever the text.

Pure: it knows requests, not who runs them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from workers.engine.request import ChoicesOutput, EngineRequest, Message

CONTENT_FREE: Final = "N/A"
"""The first of the content-free texts of Zhao et al. 2021, "Calibrate Before Use"."""


@dataclass(frozen=True, slots=True)
class Form:
    """A chat without its content, and the labels that may answer it."""

    messages: tuple[Message, ...]
    labels: tuple[str, ...]


def form_of(request: EngineRequest) -> Form | None:
    """The form whose prior a request asks for; None where it asks for none.

    The content is the last user message. Instructions and examples before it stay.
    """
    output, messages = request.output, request.messages
    if not isinstance(output, ChoicesOutput) or not output.prior or messages is None:
        return None
    last = max((at for at, one in enumerate(messages) if one.role == "user"), default=len(messages) - 1)
    free = Message(messages[last].role, CONTENT_FREE)
    return Form((*messages[:last], free, *messages[last + 1 :]), output.choices)


def content_free_request(form: Form, like: EngineRequest, name: str) -> EngineRequest:
    """The request that learns a form's prior, of the priority of one that waits for it."""
    return replace(like, id=name, messages=form.messages, output=ChoicesOutput(form.labels), deadline=None)
