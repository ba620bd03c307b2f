"""Energy of a GPU over a stretch of work: NVML's power readings, integrated. (Pascal counts no energy.)"""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType

import pynvml

from workers.gpu import Gpu

PERIOD_S = 0.02


def joules(samples: Sequence[tuple[float, float]]) -> float:
    """Energy under samples of (seconds, watts), by trapezoids."""
    return sum(
        (after - before) * (watts + following) / 2
        for (before, watts), (after, following) in pairwise(samples)
    )


class PowerMeter:
    """Reads a GPU's power in a thread while its block runs. Without a GPU it reads nothing."""

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    @property
    def joules(self) -> float | None:
        """Energy of the block; None without a GPU or where its driver tells no power."""
        return joules(self._samples) if len(self._samples) > 1 else None

    def __enter__(self) -> "PowerMeter":
        if self._gpu is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._gpu is not None:
            self._thread.join()

    def _read(self) -> None:
        assert self._gpu is not None
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(self._gpu.uuid)
            done = False
            while not done:
                done = self._over.wait(PERIOD_S)
                self._samples.append((time.perf_counter(), pynvml.nvmlDeviceGetPowerUsage(handle) / 1000))
        except pynvml.NVMLError:
            self._samples.clear()
        finally:
            pynvml.nvmlShutdown()
