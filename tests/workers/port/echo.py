"""The least backend: it answers with what it was asked, or does what the text says."""

import asyncio
import math
from typing import Any

from workers.engine.completion import Completion, Provenance, Timings, Usage
from workers.engine.request import EngineRequest
from workers.port.images import ImageSource


class Echo:
    """Answers at once; `hang` never, `break` with an exception, `nan` with what no frame can hold."""

    def __init__(self, n_slots: int = 2) -> None:
        self.n_slots = n_slots
        self.capacity = n_slots
        self.sees = True
        self.info: dict[str, Any] = {"n_slots": n_slots}
        self.closed = False

    def stats(self) -> dict[str, Any]:
        return {"echo": 1}

    async def close(self) -> None:
        self.closed = True

    async def answer(self, request: EngineRequest, waited: float, images: ImageSource) -> Completion:
        text = request.prompt or ""
        if text.startswith("image "):
            text = str(await images.get(text.removeprefix("image ")))
        if text == "hang":
            await asyncio.Event().wait()
        if text == "break":
            raise ZeroDivisionError("a customer's text")
        seconds = math.nan if text == "nan" else waited
        return Completion(
            text=text,
            finish_reason="stop",
            usage=Usage(1, 0, 1),
            timings=Timings(seconds, 0.0, 0.0, waited, 1.0, 1),
            provenance=Provenance("", "", "", "", None),
        )
