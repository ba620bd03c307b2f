"""The submitter: keeps so many jobs open, submits through the client as any producer would, cancels some.

A thread with a client of its own. When the yard is unavailable it submits the same bodies under the same ids
again, until they are confirmed.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from threading import Event, Thread
from typing import Any, TypeVar

from batchyard import Client
from batchyard.errors import YardUnavailable
from batchyard.settings import Settings
from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.pieces import Piece

T = TypeVar("T")

AGAIN_SECONDS = 0.2
_FULL_SECONDS = 0.02
_LARGEST_GROUP = 160


class Submitter:
    """Submits `pieces` so that about `window` are open, until `stop`; `again` counts refused calls."""

    def __init__(
        self, settings: Settings, ledger: Ledger, pieces: Iterator[Piece], window: int, seed: int
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._pieces = pieces
        self._window = window
        self._random = random.Random(f"submit {seed}")
        self._cancels: deque[tuple[float, str]] = deque()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="submitter", daemon=True)
        self.again = 0
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Begin nothing new; whether what was begun is confirmed within `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with Client(self._settings) as client:
                while not self._stop.is_set():
                    room = self._window - self._ledger.open_count()
                    if room > 0:
                        wanted = min(room, self._random.choice((1, 8, 40, _LARGEST_GROUP)))
                        self._submit(client, list(islice(self._pieces, wanted)))
                    self._cancel(client, time.monotonic())
                    if room <= 0:
                        self._stop.wait(_FULL_SECONDS)
                self._cancel(client, float("inf"))
        except BaseException as exc:
            self.failure = exc
            raise

    def _submit(self, client: Client, group: Sequence[Piece]) -> None:
        for batch, pieces in groupby(sorted(group, key=_batch), key=_batch):
            some = list(pieces)
            bodies = [_body(piece, batch) for piece in some]
            self._ledger.hand_over(some)
            if len(bodies) == 1:
                self._patiently(lambda body=bodies[0]: client.submit(body))  # type: ignore[misc]
            else:
                self._patiently(
                    lambda bodies=bodies, batch=batch: client.submit_many(bodies, batch=batch)  # type: ignore[misc]
                )
            self._ledger.accept(piece.id for piece in some)
            due = time.monotonic() + self._random.uniform(0, 4)
            self._cancels += [(due, piece.id) for piece in some if piece.cancel]

    def _cancel(self, client: Client, now: float) -> None:
        due = [name for at, name in self._cancels if at <= now]
        if due:
            self._cancels = deque(item for item in self._cancels if item[0] > now)
            self._ledger.cancel(due)
            self._patiently(lambda: client.cancel(*due))

    def _patiently(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except YardUnavailable:
                self.again += 1
                time.sleep(AGAIN_SECONDS)


def _batch(piece: Piece) -> str:
    return piece.batch


def _body(piece: Piece, batch: str) -> dict[str, Any]:
    body = {**piece.body, "id": piece.id, "batch": batch}
    if piece.deadline_in is not None:
        body["deadline"] = time.time() + piece.deadline_in
    return body
