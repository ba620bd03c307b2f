"""From a `submit` frame to a sequence that may wait for a slot, by way of the images it needs.

It knows how requests are read and held, not who else is running. Whatever goes wrong on the way is that
request's failure alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from workers.engine.errors import EngineError, unforeseen
from workers.engine.image_desk import Failure, Held, ImageDesk
from workers.engine.images import ImageCache
from workers.engine.intake import Intake
from workers.engine.loader import Runtime
from workers.engine.pacing import Pacing
from workers.engine.priors import Priors
from workers.engine.request import EngineRequest
from workers.engine.sequence import Sequence

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that cannot become a sequence, and why."""

    name: str
    error: EngineError


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request that became a sequence, and who may wait for a slot by it: itself, unless it has to wait for
    the prior that another one finds out.
    """

    sequence: Sequence
    entering: list[Sequence]


Arrival = Arrived | Refused


class Arrivals:
    """The way in for one model. `clock` gives seconds for timings, `wall` unix seconds for deadlines."""

    def __init__(
        self,
        runtime: Runtime,
        pacing: Pacing,
        priors: Priors,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._clock, self._wall = clock, wall
        self._pacing = pacing
        self._priors = priors
        self._sees = runtime.projector is not None
        self._intake = Intake(runtime)
        self._desk = ImageDesk(
            runtime.projector,
            ImageCache(runtime.settings.image_cache_bytes),
            capacity=runtime.capacity,
            # rows that see each other both ways have to fit one decode and one micro-batch
            most_rows=runtime.context.n_ubatch if runtime.whole_images else runtime.capacity,
        )
        self._wanted: list[str] = []

    def __contains__(self, name: object) -> bool:
        """Whether a request of this id waits for images."""
        return name in self._desk

    @property
    def busy(self) -> bool:
        """Whether `work` has something to do."""
        return self._desk.busy

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what is here now."""
        return self._desk.stats()

    def wanted(self) -> list[str]:
        """The hashes of images that nobody was asked for yet."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def submit(self, name: str, frame: Any) -> list[Arrival]:
        """Read a request: it arrives, is refused, or is held until its images are there (an empty list)."""
        return self._guarded(name, self._read, frame)

    def _read(self, frame: Any) -> list[Arrival]:
        request = EngineRequest.parse(frame, images=self._sees)
        if self._desk.lacks(request):
            # what is wrong with the rest of it is said before an image is fetched and encoded
            self._pacing.check_deadline(self._intake.without_images(request), self._wall())
        held, wanted = self._desk.take(request, self._clock())
        self._wanted += wanted
        return [] if held.missing else self._prepare(held)

    def _prepare(self, held: Held) -> list[Arrival]:
        sequence = self._intake.prepare(held.request, held.images, held.arrived)
        self._pacing.check_deadline(sequence, self._wall())
        return [Arrived(sequence, self._priors.arrive(sequence, self._intake.content_free))]

    @staticmethod
    def _guarded(name: str, part: Callable[[Any], list[Arrival]], value: Any) -> list[Arrival]:
        try:
            return part(value)
        except EngineError as error:
            return [Refused(name, error)]
        except Exception as error:
            log.exception("the request %r cannot be read", name)
            return [Refused(name, unforeseen("the request cannot be read", error))]

    def image(self, sha256: str, file: bytes | EngineError) -> list[Arrival]:
        """What `wanted` asked for: the file, or why there is none."""
        if isinstance(file, EngineError):
            return self._arrive(self._desk.refuse(sha256, file))
        self._desk.receive(sha256, file)
        return []

    def work(self, *, hurried: bool) -> list[Arrival]:
        """One piece of work on images, and who arrives by it; `hurried` while interactive jobs run."""
        return self._arrive(self._desk.work(hurried=hurried))

    def _arrive(self, outcomes: Iterable[Held | Failure]) -> list[Arrival]:
        arrived: list[Arrival] = []
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                arrived.append(Refused(outcome.held.request.id, outcome.error))
            else:
                arrived += self._guarded(outcome.request.id, self._prepare, outcome)
        return arrived

    def drop(self, name: str) -> bool:
        """Let go of a request that waits for images; False where there is none of that id."""
        return self._desk.drop(name) is not None

    @property
    def first_deadline(self) -> float | None:
        """The earliest deadline of those who wait for images, in unix seconds."""
        return self._desk.first_deadline

    def expired(self, now: float) -> list[str]:
        """Those who wait for images and whose deadline is not after `now`, in unix seconds."""
        return self._desk.expired(now)
