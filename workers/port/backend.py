"""What an engine behind the asyncio port must be able to do.

It knows no socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from workers.engine.completion import Completion
from workers.engine.request import EngineRequest
from workers.port.images import ImageSource


class Backend(Protocol):
    """One loaded model. `info` goes into the `ready` frame."""

    @property
    def n_slots(self) -> int:
        """How many requests it answers at once."""

    @property
    def capacity(self) -> int:
        """How many requests it wants to be given at once now: `n_slots` where nothing is wrong."""

    @property
    def sees(self) -> bool:
        """Whether requests may have images."""

    @property
    def info(self) -> dict[str, Any]:
        """What the model and the library are."""

    async def answer(self, request: EngineRequest, waited: float, images: ImageSource) -> Completion:
        """The completion of a request that `waited` seconds for its slot, its images to be had from `images`.
        Cancelling it ends the work.

        Raises:
            EngineError: that request's own failure.
        """

    def stats(self) -> dict[str, Any]:
        """Counters of its own."""

    async def close(self) -> None:
        """Let go of everything."""


Load = Callable[[Any], Awaitable[Backend]]
"""From the `model` of a `load` frame to a backend. Raises EngineError."""
