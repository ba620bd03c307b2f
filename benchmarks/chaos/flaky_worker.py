"""A worker whose engine fails the first attempt of each job with `flaky` in its id, for a passing reason.

Everything else is the real worker: only that one frame is altered on its way from the real engine, so that
retries go on in the middle of the faults. Which jobs have failed stands in a folder that all workers share,
named in the environment: a worker that takes over from a killed one must not fail them again.
"""

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.chaos.pieces import FLAKY
from workers import __main__ as worker
from workers import start
from workers.engine_process import EngineProcess, Frame

FOLDER_VARIABLE = "CHAOS_FLAKY_FOLDER"
_ERROR = {
    "code": "decode_failed",
    "message": "as the chaos run asked",
    "field": None,
    "remedy": None,
    "retryable": True,
}


class FlakyEngine(EngineProcess):
    """The engine's child process, as seen by a pool that is out of luck."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._folder = Path(os.environ[FOLDER_VARIABLE])
        super().__init__(*args, **settings)

    def read(self) -> list[Frame] | None:
        """The frames that have come, some of them altered."""
        frames = super().read()
        return None if frames is None else [self._altered(frame) for frame in frames]

    def _altered(self, frame: Frame) -> Frame:
        job = str(frame.get("id", "")).split("#")[0]
        if frame["op"] != "done" or FLAKY not in job or not self._first_time(job):
            return frame
        return {"op": "failed", "id": frame["id"], "error": _ERROR}

    def _first_time(self, job: str) -> bool:
        try:
            (self._folder / job).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


if __name__ == "__main__":
    setattr(start, "EngineProcess", FlakyEngine)  # noqa: B010  # to mypy it is a type
    sys.exit(worker.main())
