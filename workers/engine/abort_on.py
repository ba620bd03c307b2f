"""A hook for tests: the process aborts in the step after a request that holds a certain text has come.

`BATCHYARD_ENGINE_ABORT_ON=<text>` in the environment of the engine's process arms it, and nothing else: a
job can then do what a fault in native code does, to itself and to all that run beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

VARIABLE: Final = "BATCHYARD_ENGINE_ABORT_ON"


class AbortOn:
    """What ends the process; an empty text never does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._met = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> AbortOn:
        """As the environment says."""
        return cls(environ.get(VARIABLE, ""))

    def see(self, message: dict[str, Any]) -> None:
        """A message has come."""
        if self._text and message.get("op") == "submit":
            self._met = self._met or self._text in json.dumps(message, ensure_ascii=False)

    def step_done(self) -> None:
        """A step is done: end the process if the text was met."""
        if self._met:
            os.abort()
