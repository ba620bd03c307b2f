"""An engine's child process as a benchmark drives it: started without a catalogue, spoken to in frames.

This is the engine as a worker runs it, socket, JSON and the settings of this machine's hardware profile
included, without Celery, Redis and the router.
"""

import base64
import json
import select
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchyard.errors import EngineLost
from batchyard.hardware import load_hardware
from benchmarks.child import ROOT
from workers.engine_process import EngineProcess
from workers.gpu import Gpu, choose_gpus, list_gpus, pin_environment
from workers.profile import choose_profile, this_cpu

HARDWARE = ROOT / "configs/hardware.yaml"
ANSWER_SECONDS = 600.0
LOAD_SECONDS = 900.0
Frame = dict[str, Any]


def setting(text: str) -> tuple[str, Any]:
    """A setting of the engine from a command line, `NAME=JSON`. Raises ValueError where it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} is not NAME=JSON, such as kv_unified=true")
    return name, json.loads(value)


def profile_settings(n_gpu_layers: int) -> dict[str, Any]:
    """What `configs/hardware.yaml` gives a worker of this machine, on a GPU if layers go there; without the
    budget of the card's memory, which is the worker's to check.

    Raises:
        InvalidConfig: no profile fits.
    """
    profile = choose_profile(load_hardware(HARDWARE), visible_gpus(n_gpu_layers), this_cpu())
    return profile.settings.model_dump(exclude_none=True, exclude={"memory_budget"})


def visible_gpus(n_gpu_layers: int) -> tuple[Gpu, ...]:
    """The GPU that everybody computes on; none where no layer goes there, else a CUDA build would use it."""
    return tuple(choose_gpus(list_gpus(), "auto")[:1]) if n_gpu_layers else ()


def device_environment(n_gpu_layers: int) -> dict[str, str]:
    """The environment that shows a process that GPU alone."""
    return pin_environment(visible_gpus(n_gpu_layers))


@contextmanager
def engine_child(
    model: Path, *, slots: int, n_ctx: int, threads: int, n_batch: int | None = None, n_gpu_layers: int = 0,
    environ: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None,
) -> Iterator[EngineProcess]:  # fmt: skip
    """An engine with `model` loaded, `slots` slots of `n_ctx` tokens; ended at the end. Where nothing is said
    it has what this machine's profile gives a worker; `n_batch` stands for `n_ubatch` too. `more` are
    further settings of its `load` frame.

    Raises:
        InvalidConfig, EngineLost: the model cannot be loaded.
    """
    rows = {} if n_batch is None else {"n_batch": n_batch, "n_ubatch": n_batch}
    settings = profile_settings(n_gpu_layers) | {
        "model_name": model.stem, "model_path": str(model), "n_ctx": n_ctx, "n_slots": slots,
        "n_threads": threads, "n_gpu_layers": n_gpu_layers, **rows, **(more or {}),
    }  # fmt: skip
    around = {"PYTHONPATH": str(ROOT), **device_environment(n_gpu_layers), **(environ or {})}
    engine = EngineProcess("workers.engine", settings, around)
    try:
        engine.wait_ready(LOAD_SECONDS)
        yield engine
    finally:
        engine.end()


def frames(engine: EngineProcess, seconds: float = ANSWER_SECONDS) -> list[Frame]:
    """What the engine says next, waiting for it at most `seconds`.

    Raises:
        EngineLost: it died or said nothing for so long.
    """
    writers = [engine.write_fd] if engine.unsent else []
    if select.select([engine], writers, [], seconds) == ([], [], []):
        raise EngineLost(f"no answer for {seconds:g} s")
    engine.flush()
    found = engine.read()
    if found is None:
        raise EngineLost("the engine died")
    return found


def supply(engine: EngineProcess, frame: Frame, images: Mapping[str, bytes]) -> None:
    """Answer a `need_image` with the file, as the pool does from the store, or with that there is none."""
    sha256 = frame["sha256"]
    found: Frame = {"op": "image", "sha256": sha256}
    if sha256 in images:
        engine.send(found | {"data": base64.b64encode(images[sha256]).decode()})
    else:
        engine.send(found | {"error": {"code": "image_missing", "message": "the store has no such image"}})


def completions(
    engine: EngineProcess, requests: Iterable[Frame], at_once: int, images: Mapping[str, bytes] | None = None
) -> dict[str, Frame]:
    """Each request's completion by its id, `at_once` of them in the engine at any time; `images` by hash.

    Raises:
        EngineLost: it died, refused a request, or took longer than `ANSWER_SECONDS` for one step forward.
    """
    waiting = deque(requests)
    inside: set[str] = set()
    found: dict[str, Frame] = {}
    while waiting or inside:
        while waiting and len(inside) < at_once:
            request = waiting.popleft()
            engine.send({"op": "submit", "request": request})
            inside.add(str(request["id"]))
        for frame in frames(engine):
            if frame["op"] in ("failed", "rejected"):
                raise EngineLost(f"{frame['id']} failed: {frame['error']['message']}")
            if frame["op"] == "need_image":
                supply(engine, frame, images or {})
            if frame["op"] == "done":
                inside.discard(frame["id"])
                found[frame["id"]] = frame["completion"]
    return found


def stats(engine: EngineProcess) -> Frame:
    """The engine's own counters. To be asked while it is idle: other frames that come are dropped."""
    engine.send({"op": "stats"})
    while True:
        for frame in frames(engine):
            if frame["op"] == "stats":
                found: Frame = frame["stats"]
                return found
