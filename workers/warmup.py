"""Warm-up: a full batch through the engine before the first job, so that no caller pays for first touches.

`python -m workers.warmup --model defect_detect --batch_size 4` does just that and prints what it took;
the worker does it at start.
"""

import argparse
import select
import sys
import time
from typing import Any

from batchyard.catalogue import Catalogue, LlamaEntry, ModelEntry, load_catalogue
from batchyard.errors import EngineLost, JobFailed, YardError
from batchyard.job import Job
from batchyard.output import EmbeddingOutput
from batchyard.sampling import Sampling
from batchyard.settings import load_settings
from workers.engine_process import EngineProcess, Frame
from workers.gpu import gpus_for
from workers.requests import engine_request
from workers.start import prepare, start_engine

WARM_UP_SECONDS = 300.0
_TEXT = "Warm-up: board 1, no finding at U1."


def warm_up(engine: EngineProcess, entry: ModelEntry, catalogue: Catalogue, batch_size: int) -> float:
    """Run `batch_size` short jobs of the model's tasks at once; returns the seconds it took.

    Models that llama.cpp runs alone: an endpoint has nothing to warm and may charge for it, and a classifier
    has run once before it says that it is ready.

    Raises:
        EngineLost, JobFailed: the engine did not get through it.
    """
    if not isinstance(entry, LlamaEntry):
        return 0.0
    began = time.monotonic()
    waiting = set()
    for number in range(batch_size):
        request = short_request(number, entry, catalogue)
        engine.send({"op": "submit", "request": request})
        waiting.add(request["id"])
    for_pool: list[Frame] = []
    limit = began + WARM_UP_SECONDS
    while waiting:
        left = limit - time.monotonic()
        if left <= 0:
            raise EngineLost(f"warm-up did not finish within {WARM_UP_SECONDS:g} s", "engine_start_timeout")
        select.select([engine], [engine.write_fd] if engine.unsent else [], [], left)
        engine.flush()
        frames = engine.read()
        if frames is None:
            raise EngineLost(f"the engine died during warm-up ({engine.end()})")
        for frame in frames:
            if frame["op"] in ("done", "failed"):
                waiting.discard(_finished(frame))
            else:
                for_pool.append(frame)
    engine.keep(for_pool)  # the engine's capacity may be among them, which it tells once
    return time.monotonic() - began


def short_request(number: int, entry: ModelEntry, catalogue: Catalogue) -> dict[str, Any]:
    """A request of a few tokens for one of the model's tasks, in turn, as the engine takes it."""
    tasks = entry.tasks or catalogue.task_names[:1]
    task = tasks[number % len(tasks)]
    embeds = isinstance(entry, LlamaEntry) and entry.embedding
    job = Job(
        id=f"warmup-{number}", task=task, prompt=_TEXT, sampling=Sampling(max_tokens=8),
        output=EmbeddingOutput(type="embedding") if embeds else None,
    )  # fmt: skip
    return engine_request(job, task, catalogue, entry)


def _finished(frame: Frame) -> str:
    if frame["op"] == "failed":
        error = frame["error"]
        raise JobFailed(f"warm-up: {error['message']}", error["code"], remedy=error.get("remedy"))
    return str(frame["id"])


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m workers.warmup`."""
    parser = argparse.ArgumentParser(prog="python -m workers.warmup", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch_size", "--batch-size", type=int, default=4)
    parser.add_argument("--gpu", default="auto")
    parser.add_argument("--profile", help="hardware profile, instead of the one that matches the GPU or CPU")
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        catalogue = load_catalogue(settings.models)
        entry = catalogue.model(arguments.model)
        entry = entry.model_copy(update={"n_slots": max(entry.n_slots, arguments.batch_size)})
        start = prepare(settings, entry, gpus_for(entry, arguments.gpu), arguments.profile)
        began = time.monotonic()
        engine = start_engine(settings, start)
        loaded = time.monotonic() - began
        first = warm_up(engine, entry, catalogue, arguments.batch_size)
        second = warm_up(engine, entry, catalogue, arguments.batch_size)
        engine.end()
    except YardError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    print(
        f"{entry.model_name}: loaded in {loaded:.2f} s; "
        f"{arguments.batch_size} jobs at once took {first:.3f} s cold, {second:.3f} s warm"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
