"""The engine's one error type and its codes, placed on a request's path.

    frame ──parse──► prompt ──tokenise──► slot ──decode──► sample ──► completion
       request_invalid  template_failed      decode_failed    cancelled
       choices_invalid  prompt_empty         out_of_memory    deadline_exceeded, deadline_unreachable
       schema_invalid   prompt_too_long
       grammar_invalid  image_corrupt
       image_missing    image_too_large
       images_not_supported
       output_not_supported

`internal_error` is a fault of our own, anywhere on it: the request is not to blame, and may be tried again.
`model_file_invalid` and `out_of_memory` can also happen before any request, while the model loads, and
`gpu_locked` only then.
It knows no queue and no retry policy: `retryable` only says whether the same request can succeed later
unchanged.
"""

from __future__ import annotations

from typing import Any, Final

REQUEST_INVALID: Final = "request_invalid"
PROMPT_TOO_LONG: Final = "prompt_too_long"
PROMPT_EMPTY: Final = "prompt_empty"
SCHEMA_INVALID: Final = "schema_invalid"
GRAMMAR_INVALID: Final = "grammar_invalid"
CHOICES_INVALID: Final = "choices_invalid"
TEMPLATE_FAILED: Final = "template_failed"
IMAGES_NOT_SUPPORTED: Final = "images_not_supported"
OUTPUT_NOT_SUPPORTED: Final = "output_not_supported"
IMAGE_MISSING: Final = "image_missing"
IMAGE_CORRUPT: Final = "image_corrupt"
IMAGE_TOO_LARGE: Final = "image_too_large"
CANCELLED: Final = "cancelled"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"
DEADLINE_UNREACHABLE: Final = "deadline_unreachable"
DECODE_FAILED: Final = "decode_failed"
MODEL_FILE_INVALID: Final = "model_file_invalid"
OUT_OF_MEMORY: Final = "out_of_memory"
INTERNAL_ERROR: Final = "internal_error"
GPU_LOCKED: Final = "gpu_locked"

RETRYABLE: Final = frozenset({DECODE_FAILED, INTERNAL_ERROR})


class EngineError(Exception):
    """A named failure of one request or of loading a model.

    `field` names the part of the request that is wrong, `remedy` says what the caller can do.
    """

    def __init__(
        self, code: str, message: str, *, field: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.remedy = remedy

    @property
    def retryable(self) -> bool:
        """Whether the unchanged request may succeed when it is tried again."""
        return self.code in RETRYABLE

    def to_frame(self) -> dict[str, Any]:
        """The error as the port writes it."""
        return {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "remedy": self.remedy,
            "retryable": self.retryable,
        }


def unforeseen(what: str, error: Exception) -> EngineError:
    """The failure of one request by an error that is no EngineError."""
    return EngineError(
        INTERNAL_ERROR,
        f"{what}: {type(error).__name__}: {str(error)[:300]}",
        remedy="this is a bug: keep the job's input and the engine's log for a report",
    )


def memory_full() -> EngineError:
    """The failure of the one whose cells the others need, when nobody can give way."""
    return EngineError(
        DECODE_FAILED,
        "the model's memory is full, and no other job could give way",
        remedy="try again, or lower n_slots or n_ctx in the model catalogue, or raise n_cells",
    )
