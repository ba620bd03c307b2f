"""The `model` of a `load` frame as the catalogue's own entry.

It opens no file and reads no environment.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from batchyard.entry import ServedModel
from workers.engine.errors import MODEL_FILE_INVALID, EngineError

T = TypeVar("T", bound=ServedModel)


def read_entry(kind: type[T], frame: Any) -> T:
    """The entry in a port frame. Raises EngineError (model_file_invalid) with the field at fault; the value
    is not shown, since it may be a secret.
    """
    try:
        return kind.model_validate(frame)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "model"
        raise wrong_setting(field, first["msg"].removeprefix("Value error, ")) from None


def wrong_setting(
    field: str, why: str, remedy: str = "correct the model's entry in the catalogue"
) -> EngineError:
    """The error of a model's setting."""
    return EngineError(MODEL_FILE_INVALID, why, field=field, remedy=remedy)
