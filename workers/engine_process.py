"""The engine's child process: started, spoken to in frames, found dead.

One end of a socket pair; never blocks once it is up. Knows nothing of jobs, Celery or Redis: the pool
decides what to say and what an answer means.
"""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from batchyard.errors import EngineLost, InvalidConfig
from workers.engine.frames import FrameError, FrameReader, encode_frame

Frame = dict[str, Any]
_READ = 1 << 18
logger = logging.getLogger(__name__)


class EngineProcess:
    """A running engine child, `python -m` of `program`. `environ` is added to this process's environment for
    the child alone: the GPU pin and the OpenMP settings must stand there before llama.cpp is loaded."""

    def __init__(
        self, program: str, model: Mapping[str, Any], environ: Mapping[str, str] | None = None
    ) -> None:
        self._program = program
        self._model = dict(model)
        self._environ = dict(environ or {})
        self._out: deque[memoryview] = deque()
        self._early: list[Frame] = []
        self.info: Frame = {}
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._program, "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | self._environ,
                start_new_session=True,  # Ctrl-C is for the worker, which drains; the engine ends with it
            )
        ours.setblocking(False)
        self._socket = ours
        # Event loops keep one registration a descriptor; reading and writing get one each.
        self.write_fd = os.dup(ours.fileno())
        self._reader = FrameReader()
        self.ready = False
        self.send({"op": "load", "model": self._model})

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def fileno(self) -> int:
        """The socket, for an event loop: readable when `read` has something."""
        return self._socket.fileno()

    def send(self, frame: Mapping[str, Any]) -> None:
        """Queue a frame and write what the socket takes now; the rest goes with `flush`."""
        self._out.append(memoryview(encode_frame(dict(frame))))
        self.flush()

    @property
    def unsent(self) -> bool:
        """Whether `flush` has something left to write."""
        return bool(self._out)

    def flush(self) -> None:
        """Write as much as the socket takes. A dead peer is noticed by `read`, not here."""
        while self._out:
            try:
                sent = self._socket.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()
                return
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]

    def read(self) -> list[Frame] | None:
        """The frames that have come, without waiting; None once the child is gone."""
        early, self._early = self._early, []
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return early
        except OSError:
            data = b""
        if not data:
            return early or None
        try:
            frames = early + self._reader.feed(data)
        except FrameError:
            logger.exception("the engine sent what is no frame; nothing after it can be trusted")
            self.kill()
            return None
        for frame in frames:
            if frame["op"] == "ready":
                self.ready, self.info = True, frame["info"]
        return frames

    def keep(self, frames: Iterable[Frame]) -> None:
        """Frames for whoever reads next: `read` returns them first."""
        self._early += frames

    def wait_ready(self, timeout: float) -> None:
        """Wait until the model is loaded, at most `timeout` seconds.

        Raises:
            InvalidConfig: the model cannot be loaded; the engine's reason.
            EngineLost: the child died, or took too long.
        """
        limit = time.monotonic() + timeout
        while not self.ready:
            left = limit - time.monotonic()
            if left <= 0:
                raise EngineLost(f"the model was not loaded within {timeout:g} s", "engine_start_timeout")
            select.select([self._socket], [self._socket] if self.unsent else [], [], left)
            self.flush()
            frames = self.read()
            if frames is None:
                raise EngineLost(f"the engine died while loading ({self.end()})")
            for frame in frames:
                if frame["op"] == "load_failed":
                    error = frame["error"]
                    raise InvalidConfig(
                        error["message"],
                        code=error["code"],
                        field=f"model {self._model.get('model_name')!r}: {error.get('field') or 'model'}",
                        remedy=error.get("remedy"),
                    )
            self.keep(frame for frame in frames if frame["op"] != "ready")

    def restart(self) -> None:
        """After `end`: start a new child with the same model; `ready` when its frame has come."""
        self._out.clear()
        self._start()

    def kill(self) -> None:
        """End the child at once; `read` then says that it is gone."""
        self._process.kill()

    def end(self, grace: float = 5.0) -> str:
        """End the child (by closing its socket, then by force) and say how it ended."""
        self._socket.close()
        os.close(self.write_fd)
        try:
            code = self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
