"""An engine child of any kind, driven by hand through the pool's own end of the port."""

import os
import select
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from batchyard.errors import YardError
from workers.engine_process import EngineProcess, Frame

ENDS = ("done", "failed", "rejected")


class Child:
    """A running child; `model` is its `load` frame's."""

    def __init__(
        self, program: str, model: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        self.process = EngineProcess(program, model, environ)
        self._frames: list[Frame] = []

    def __enter__(self) -> "Child":
        try:
            self.process.wait_ready(60)
        except YardError:
            self.process.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.end()

    def submit(self, name: str, text: str = "", **request: Any) -> None:
        """Submit a request, greedy unless it says otherwise."""
        sampling = {"temperature": 0.0, "max_tokens": 8} | request.pop("sampling", {})
        content = {"messages": [{"role": "user", "content": text}]} if text else {}
        self.process.send({"op": "submit", "request": {"id": name, "sampling": sampling} | content | request})

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """What is sent meanwhile reaches the child all at once."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def cancel(self, name: str) -> None:
        """Cancel a request."""
        self.process.send({"op": "cancel", "id": name})

    def until(self, *ops: str, name: str | None = None) -> Frame:
        """The next frame of an operation (and request); others stay for later."""
        while True:
            for at, frame in enumerate(self._frames):
                if frame["op"] in ops and name in (None, frame.get("id")):
                    return self._frames.pop(at)
            frames = self.process.read()  # what came with `ready` is there without anything to wait for
            assert frames is not None, "the child is gone"
            self._frames += frames
            if not frames:
                ready, _, _ = select.select([self.process], [], [], 60)
                assert ready, f"no {' or '.join(ops)} within a minute"

    def done(self, name: str) -> dict[str, Any]:
        """The completion of a request."""
        frame = self.until(*ENDS, name=name)
        assert frame["op"] == "done", frame
        completion: dict[str, Any] = frame["completion"]
        return completion

    def failed(self, name: str) -> dict[str, Any]:
        """The error of a request."""
        frame = self.until(*ENDS, name=name)
        assert frame["op"] == "failed", frame
        error: dict[str, Any] = frame["error"]
        return error

    def stats(self) -> dict[str, Any]:
        """The child's counters."""
        self.process.send({"op": "stats"})
        stats: dict[str, Any] = self.until("stats")["stats"]
        return stats
