"""A worker whose engine answers the first attempt of each job named `flaky-…` with a passing error.

Everything else is the real worker; only that one frame is altered on its way from the real engine.
"""

import sys
from typing import Any

from workers import __main__ as worker
from workers import start
from workers.engine_process import EngineProcess, Frame

FAULT = {"code": "decode_failed", "message": "the test says so", "field": None, "remedy": None}


class FlakyEngine(EngineProcess):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._failed: set[str] = set()
        super().__init__(*args, **kwargs)

    def read(self) -> list[Frame] | None:
        frames = super().read()
        return None if frames is None else [self._altered(frame) for frame in frames]

    def _altered(self, frame: Frame) -> Frame:
        job_id = str(frame.get("id", "")).split("#")[0]
        if frame["op"] != "done" or not job_id.startswith("flaky-") or job_id in self._failed:
            return frame
        if not job_id.startswith("flaky-always"):
            self._failed.add(job_id)
        return {"op": "failed", "id": frame["id"], "error": {**FAULT, "retryable": True}}


if __name__ == "__main__":
    start.EngineProcess = FlakyEngine  # type: ignore[misc]
    sys.exit(worker.main())
