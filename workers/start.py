"""Starting an engine for a catalogue entry: pinned, loaded, checked."""

import logging
import os
from pathlib import Path

from batchyard.catalogue import ModelEntry
from batchyard.entry import OpenaiEntry
from batchyard.errors import YardError
from batchyard.settings import Settings
from workers.engine_process import EngineProcess
from workers.gpu import Gpu, pin_environment, runs_on
from workers.requests import engine_model

LOAD_SECONDS = 900.0
PROGRAMS = {"llama_cpp": "workers.engine", "openai": "workers.remote", "onnx": "workers.onnx"}
"""The child process for each `engine` of the catalogue; all speak the same frames."""
logger = logging.getLogger(__name__)


def start_engine(
    settings: Settings, entry: ModelEntry, gpu: Gpu | None, threads: int | None = None
) -> EngineProcess:
    """An engine with the entry's model loaded, pinned and checked.

    Raises:
        InvalidConfig: the model cannot be loaded.
    """
    root = str(settings.models.resolve().parent.parent)
    environ = pin_environment(gpu) | _import_path()
    if settings.omp_spin_count is not None:
        environ["GOMP_SPINCOUNT"] = str(settings.omp_spin_count)
    own = None if isinstance(entry, OpenaiEntry) else entry.n_threads
    model = engine_model(entry, root, threads or own or free_cores(), gpu is not None)
    engine = EngineProcess(PROGRAMS[entry.engine], model, environ)
    try:
        engine.wait_ready(LOAD_SECONDS)
    except YardError:
        engine.end(grace=0.5)
        raise
    if gpu is not None and runs_on(engine.pid, gpu) is False:
        logger.warning("NVML does not list the engine on %s; is llama.cpp built with CUDA?", gpu.uuid)
    return engine


def free_cores() -> int:
    """Cores for the engine's threads: those this process may use, less one for Celery, which feeds it.

    On two cores a worker with one thread did nearly twice the jobs of one with two (`benchmarks/`): a step
    waits for its slowest thread, and that one was sharing its core.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _import_path() -> dict[str, str]:
    """The engine child imports `workers` from this checkout, wherever the operator stands."""
    here = str(Path(__file__).resolve().parent.parent)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
