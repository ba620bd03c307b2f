"""An engine that costs nothing: `python -m benchmarks.no_cost_engine --fd N`, as a worker starts it.

It answers every request at once with one word, over the same port as the real ones. One whose raw prompt
begins with `flaky` fails in every other attempt, by its key, with an error that a retry helps.
"""

import sys
import zlib
from typing import Any

from workers.engine.completion import Completion, Provenance, Timings, Usage
from workers.engine.errors import INTERNAL_ERROR, EngineError
from workers.engine.request import EngineRequest
from workers.port.child import run_child
from workers.port.images import ImageSource

FLAKY = "flaky"


class NoCostBackend:
    """The port's backend; `n_slots` requests at once."""

    sees = False

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots

    @property
    def capacity(self) -> int:
        """All slots, always."""
        return self.n_slots

    @property
    def info(self) -> dict[str, Any]:
        """For the `ready` frame."""
        return {"engine": "no cost", "n_slots": self.n_slots}

    async def answer(self, request: EngineRequest, waited: float, images: ImageSource) -> Completion:
        """One word.

        Raises:
            EngineError: internal_error, of some attempts at a flaky request.
        """
        if (request.prompt or "").startswith(FLAKY) and zlib.crc32(request.id.encode()) % 2:
            raise EngineError(INTERNAL_ERROR, "this attempt was to fail")
        return Completion(
            text="done",
            finish_reason="stop",
            usage=Usage(1, 0, 1),
            timings=Timings(waited, 0.0, 0.0, waited, 1.0, 1),
            provenance=Provenance("", "", "", "", None),
        )

    def stats(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    async def close(self) -> None:
        """Nothing to let go of."""


async def load(model: Any) -> NoCostBackend:
    """A backend for the entry in a `load` frame."""
    return NoCostBackend(int(model["n_slots"]))


def main() -> int:
    """Serve what a pool asks over the inherited socket."""
    return run_child("benchmarks.no_cost_engine", load)


if __name__ == "__main__":
    sys.exit(main())
