"""The engine with a model of the catalogue, started as a worker starts it, its entry changed here and there.

It knows the options that say which model and where; what is asked and compared is the benchmark's.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchyard import Job, Sampling, Settings
from batchyard.catalogue import Catalogue, load_catalogue
from benchmarks.child import ROOT
from benchmarks.engine_client import completions
from benchmarks.shapes import measured_model
from workers.engine_process import EngineProcess
from workers.gpu import gpus_for
from workers.requests import engine_request
from workers.start import prepare, start_engine


@dataclass(frozen=True, slots=True)
class Setup:
    """What engine to start and what to ask it."""

    settings: Settings
    catalogue: Catalogue
    model: str
    task: str
    gpu: str
    threads: int | None
    weights: Path | None = None
    """A file in place of the entry's own."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which model, for which task, and where it runs."""
    parser.add_argument("--model", default="defect_detect")
    parser.add_argument("--task", default="defect_detect")
    parser.add_argument("--weights", help="in place of the model's file: starter, 1.1B, 7B or a GGUF")
    parser.add_argument("--gpu", default="none", help="UUID, index, auto or none")
    parser.add_argument("--threads", type=int, help="of a step (default: a worker's own, all cores but one)")


def setup_of(options: argparse.Namespace) -> Setup:
    """From the options of `add_options`. Raises InvalidConfig where the catalogue is wrong."""
    settings = Settings(
        models=Path(os.environ.get("BATCHYARD_MODELS", ROOT / "configs/models.yaml")),
        hardware=Path(os.environ.get("BATCHYARD_HARDWARE", ROOT / "configs/hardware.yaml")),
    )
    catalogue = load_catalogue(settings.models)
    weights = None if options.weights is None else measured_model(options.weights)
    return Setup(settings, catalogue, options.model, options.task, options.gpu, options.threads, weights)


def start(setup: Setup, slots: int, **changes: bool) -> EngineProcess:
    """An engine with so many slots and these settings of its entry changed.

    Raises:
        InvalidConfig: the model cannot be loaded.
    """
    weights = {} if setup.weights is None else {"model_path": str(setup.weights)}
    changed = {"n_slots": slots, **weights, **changes}
    entry = setup.catalogue.model(setup.model).model_copy(update=changed)
    gpus = gpus_for(entry, setup.gpu)
    return start_engine(setup.settings, prepare(setup.settings, entry, gpus, threads=setup.threads))


def asked(
    engine: EngineProcess, setup: Setup, prompts: Sequence[str], at_once: int, logprobs: int | None = None
) -> list[dict[str, Any]]:
    """The engine's completion of each prompt, `at_once` of them in it at any time. Raises as
    `engine_client.completions` does."""
    sampling = Sampling(temperature=0, logprobs=logprobs)
    jobs = [
        Job(id=f"n{number}", task=setup.task, prompt=prompt, sampling=sampling)
        for number, prompt in enumerate(prompts)
    ]
    entry = setup.catalogue.model(setup.model)
    requests = [engine_request(job, setup.task, setup.catalogue, entry) for job in jobs]
    found = completions(engine, requests, at_once)
    return [found[job.id] for job in jobs]
