"""The errors of an endpoint, placed on a request's path.

    request ──compose──► breaker ──────────► HTTP ──────────────────► read ──► completion
            request_invalid  endpoint_unavailable  endpoint_unavailable   endpoint_answer_invalid
            schema_invalid                         endpoint_busy          schema_invalid
            grammar_invalid                        endpoint_refused
            choices_invalid                        prompt_too_long

It knows no SDK.
"""

from __future__ import annotations

from typing import Any, Final

from workers.engine.errors import EngineError

ENDPOINT_UNAVAILABLE: Final = "endpoint_unavailable"
ENDPOINT_BUSY: Final = "endpoint_busy"
ENDPOINT_REFUSED: Final = "endpoint_refused"
ENDPOINT_ANSWER_INVALID: Final = "endpoint_answer_invalid"


class EndpointError(EngineError):
    """A failure that the endpoint has caused. `retry_after`: seconds before which no attempt can succeed."""

    def __init__(
        self, code: str, message: str, *, remedy: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(code, message, remedy=remedy)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Always: none of them is the request's fault."""
        return True

    def to_frame(self) -> dict[str, Any]:
        """The error as the port writes it."""
        return super().to_frame() | {"retry_after": self.retry_after}
