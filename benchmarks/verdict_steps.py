"""How many steps a verdict takes, measured on the starter model with and without jump-forward."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchyard.catalogue import load_catalogue
from batchyard.job import Job
from benchmarks.child import ROOT
from benchmarks.reports import labelled_reports
from workers.engine.engine import Engine
from workers.engine.loader import load
from workers.engine.model import EngineModel
from workers.requests import engine_request

MODEL = ROOT / "models/defect_detect.Q4_K_M.gguf"
TASK = "defect_detect"


@dataclass(frozen=True)
class Verdicts:
    """The steps of each job and the mean number of its tokens."""

    steps: tuple[int, ...]
    tokens: float


def measure(count: int, *, jump_forward: bool, model: Path = MODEL) -> Verdicts:
    """Run held-out reports one at a time. A step that carries a whole prompt draws the first token too."""
    catalogue = load_catalogue(ROOT / "configs/models.yaml")
    settings = EngineModel(
        "steps", str(model), n_ctx=256, n_slots=1, n_threads=1, prefix_cache=False, jump_forward=jump_forward
    )
    runtime = load(settings)
    engine = Engine(runtime)
    steps: list[int] = []
    tokens = 0
    try:
        for report in labelled_reports(count):
            job = Job(prompt=report.text, task=TASK)
            engine.submit(engine_request(job, TASK, catalogue, catalogue.model(TASK)))
            while not engine.idle:
                engine.step()
            for event in engine.events():
                if event["op"] == "failed":
                    raise RuntimeError(event["error"]["message"])
                if event["op"] == "done":
                    steps.append(event["completion"]["timings"]["steps"])
                    tokens += event["completion"]["usage"]["completion_tokens"]
    finally:
        runtime.close()
    return Verdicts(tuple(steps), tokens / count)
