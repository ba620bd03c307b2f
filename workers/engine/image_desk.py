"""Requests whose images are not encoded yet, and the work that gets them encoded, one piece at a time.

It decides what to ask for, what to do next and who may go on; it knows no socket, no step and no prompt. One
thread calls everything here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from workers.engine.errors import IMAGE_TOO_LARGE, PROMPT_TOO_LONG, EngineError, unforeseen
from workers.engine.images import Embeddings, Image, ImageCache, Slot, Tokens, assemble
from workers.engine.request import LOWEST_INTERACTIVE, EngineRequest

log = logging.getLogger(__name__)

REST: Final = 8
"""Steps between two pieces of work on images of batch jobs alone, while interactive jobs run."""


class Picture(Protocol):
    """A decoded image."""

    @property
    def pieces(self) -> tuple[Tokens | Slot, ...]:
        """What stands in the prompt, in order."""

    def encode(self, slot: Slot) -> Embeddings:
        """Rows [rows, width] of a slot. Raises EngineError."""

    def close(self) -> None:
        """Free what it holds."""


class Encoder(Protocol):
    """Makes pictures of image files."""

    def open(self, data: bytes) -> Picture:
        """Decode a file. Raises EngineError."""


@dataclass(slots=True)
class Held:
    """A request with the images it has so far; `missing` are the hashes of those it waits for.

    `arrived` is when it came, in seconds on the engine's clock.
    """

    request: EngineRequest
    arrived: float
    images: dict[str, Image] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Development:
    """A picture on its way: the pieces done, those still to do."""

    sha256: str
    picture: Picture
    left: deque[Tokens | Slot]
    done: list[Tokens | Embeddings] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failure:
    """A held request that cannot go on, and why."""

    held: Held
    error: EngineError


class ImageDesk:
    """Holds requests until their images are encoded, those first that the best priority waits for.

    `encodes` counts images encoded, `hits` those that a request found encoded or on their way.
    """

    def __init__(self, encoder: Encoder | None, cache: ImageCache, *, capacity: int, most_rows: int) -> None:
        """A slot has `capacity` cells, and one run of embeddings may have `most_rows`.

        Without an `encoder` no request may have images.
        """
        self._encoder = encoder
        self._cache = cache
        self._capacity = capacity
        self._most_rows = most_rows
        self._held: dict[str, Held] = {}
        self._waiters: dict[str, dict[str, Held]] = {}
        """Of each missing image, those who wait for it, by their ids."""
        self._asked: set[str] = set()
        self._files: dict[str, bytes] = {}
        self._developments: dict[str, _Development] = {}
        """Begun ones; of several, all but the best wait for a more urgent one, so they are few."""
        self._rested = REST
        self.encodes = 0
        self.hits = 0

    @property
    def busy(self) -> bool:
        """Whether `work` has something to do."""
        return bool(self._files or self._developments)

    def __contains__(self, name: object) -> bool:
        """Whether a request of this id is held."""
        return name in self._held

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what is here now."""
        return {
            "image_encodes": self.encodes,
            "image_cache_hits": self.hits,
            "image_cache_bytes": self._cache.n_bytes,
            "images_held": len(self._held),
        }

    def lacks(self, request: EngineRequest) -> bool:
        """Whether the request would be held."""
        return any(image.sha256 not in self._cache for image in request.images)

    def take(self, request: EngineRequest, arrived: float) -> tuple[Held, list[str]]:
        """The request with what images there are, held if some are missing; and the hashes to ask for."""
        held = Held(request, arrived)
        for sha256 in dict.fromkeys(image.sha256 for image in request.images):
            image = self._cache.get(sha256)
            if image is None:
                held.missing.add(sha256)
                self._waiters.setdefault(sha256, {})[request.id] = held
            else:
                held.images[sha256] = image
        wanted = sorted(held.missing - self._asked)
        self.hits += len(held.images) + len(held.missing) - len(wanted)
        if held.missing:
            self._held[request.id] = held
            self._asked.update(wanted)
        return held, wanted

    @property
    def first_deadline(self) -> float | None:
        """The earliest deadline of those held, in unix seconds."""
        deadlines = (held.request.deadline for held in self._held.values())
        return min((one for one in deadlines if one is not None), default=None)

    def expired(self, now: float) -> list[str]:
        """Held requests whose deadline is not after `now`, in unix seconds."""
        deadlines = ((name, held.request.deadline) for name, held in self._held.items())
        return [name for name, deadline in deadlines if deadline is not None and deadline <= now]

    def drop(self, name: str) -> Held | None:
        """Let go of a held request, and of files and begun pictures that nobody else waits for; None where
        there is none of that id.
        """
        held = self._held.pop(name, None)
        if held is not None:
            for sha256 in held.missing:
                waiters = self._waiters[sha256]
                del waiters[name]
                if not waiters:
                    del self._waiters[sha256]
                    self._forget(sha256)
        return held

    def _forget(self, sha256: str) -> None:
        """Nobody waits for an image any more. One that is still asked for is forgotten when it comes."""
        if sha256 in self._files or sha256 in self._developments:
            self._files.pop(sha256, None)
            self._close(sha256)
            self._asked.discard(sha256)

    def receive(self, sha256: str, data: bytes) -> None:
        """The file that was asked for; one that nobody waits for any more is forgotten."""
        if sha256 not in self._asked or sha256 in self._developments:
            return
        if sha256 in self._waiters:
            self._files[sha256] = data
        else:
            self._asked.discard(sha256)

    def refuse(self, sha256: str, error: EngineError) -> list[Failure]:
        """There is no such image, or it cannot be used: who waited for it cannot go on."""
        self._asked.discard(sha256)
        failed = list(self._waiters.get(sha256, {}).values())
        for held in failed:
            self.drop(held.request.id)
        return [Failure(held, _named(error, sha256)) for held in failed]

    def work(self, *, hurried: bool = False) -> Iterable[Held | Failure]:
        """One piece of work: decode a file, or one pass of the encoder. While interactive jobs run
        (`hurried`) those for batch jobs alone are `REST` calls apart.

        Returns who may go on now, or cannot.
        """
        if not self.busy or self._encoder is None:
            return ()
        sha256 = min((*self._developments, *self._files), key=self._urgency)
        if hurried and self._urgency(sha256) > LOWEST_INTERACTIVE and self._rested < REST:
            self._rested += 1
            return ()
        self._rested = 0
        try:
            current = self._developments.get(sha256)
            if current is None:
                picture = self._encoder.open(self._files.pop(sha256))
                current = _Development(sha256, picture, deque(picture.pieces))
                self._developments[sha256] = current
                self._check(picture)
            else:
                self._encode_next(current)
        except EngineError as error:
            self._close(sha256)
            return self.refuse(sha256, error)
        except Exception as error:
            log.exception("the image %s… cannot be encoded", sha256[:12])
            self._close(sha256)
            return self.refuse(sha256, unforeseen("the image cannot be encoded", error))
        return self._finish(current)

    def _urgency(self, sha256: str) -> int:
        """The best priority that waits for an image; among equals begun ones go first, then first come."""
        return min(held.request.priority for held in self._waiters[sha256].values())

    def _check(self, picture: Picture) -> None:
        """Before the encoder's time is spent: rows that no slot or no decode can take."""
        rows = [piece.rows for piece in picture.pieces if not isinstance(piece, np.ndarray)]
        if sum(rows) >= self._capacity:
            raise EngineError(
                PROMPT_TOO_LONG,
                f"the image alone takes {sum(rows)} positions; this model's slots hold {self._capacity}",
                remedy="scale the image down, or raise n_ctx in the model catalogue",
            )
        if max(rows, default=0) > self._most_rows:
            raise EngineError(
                IMAGE_TOO_LARGE,
                f"the image takes {max(rows)} positions in one decode, which may have {self._most_rows}",
                remedy="scale the image down, or raise n_ubatch and n_batch in the model catalogue",
            )

    def _encode_next(self, current: _Development) -> None:
        piece = current.left.popleft()
        current.done.append(piece if isinstance(piece, np.ndarray) else current.picture.encode(piece))

    def _finish(self, current: _Development) -> list[Held]:
        while current.left and isinstance(current.left[0], np.ndarray):
            self._encode_next(current)
        if current.left:
            return []
        image = assemble(current.sha256, current.done)
        self.encodes += 1
        self._cache.put(current.sha256, image)
        self._asked.discard(current.sha256)
        self._close(current.sha256)
        return self._release(current.sha256, image)

    def _release(self, sha256: str, image: Image) -> list[Held]:
        ready: list[Held] = []
        for name, held in self._waiters.pop(sha256).items():
            held.missing.discard(sha256)
            held.images[sha256] = image
            if not held.missing:
                del self._held[name]
                ready.append(held)
        return ready

    def _close(self, sha256: str) -> None:
        development = self._developments.pop(sha256, None)
        if development is not None:
            development.picture.close()


def _named(error: EngineError, sha256: str) -> EngineError:
    """The error with the image's hash in it: a job may have several."""
    start = f"{sha256[:12]}…"
    message = error.message if start in error.message else f"{error.message} (image {start})"
    return EngineError(error.code, message, field="messages", remedy=error.remedy)
