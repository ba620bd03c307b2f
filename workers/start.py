"""Starting an engine for a catalogue entry: profile chosen, settings resolved, GPU checked, model loaded.

    entry, GPUs ─► prepare ─────────────► Start ─► start_engine ─────────────────► engine, ready
                   reads hardware.yaml             asks the build, loads, asks NVML

It knows no jobs.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchyard.catalogue import LlamaEntry, ModelEntry
from batchyard.entry import OnnxEntry, on_nvidia
from batchyard.errors import InvalidConfig, YardError
from batchyard.hardware import Profile, load_hardware
from batchyard.settings import Settings
from workers.checks import gpu_findings
from workers.engine.build_facts import BuildFacts, build_facts
from workers.engine.errors import EngineError
from workers.engine.gguf_file import GgufHeader, read_header
from workers.engine_process import EngineProcess
from workers.gpu import Gpu, Held, memory_held, pin_environment, sees_host_pids
from workers.profile import Resolved, choose_profile, resolve, this_cpu
from workers.requests import engine_model, root_path
from workers.whole_rows import WholeRows, whole_rows

LOAD_SECONDS = 900.0
PROGRAMS = {"llama_cpp": "workers.engine", "openai": "workers.remote", "onnx": "workers.onnx"}
"""The child process for each `engine` of the catalogue; all speak the same frames."""
LEAST_TAKEN = 64 << 20
"""Bytes: less than CUDA's context alone takes."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Everything that is decided before an engine starts. Without `gpus` it runs on the CPU."""

    entry: ModelEntry
    gpus: tuple[Gpu, ...]
    profile: Profile
    resolved: Resolved

    @property
    def on_gpu(self) -> bool:
        """Whether the model is on a GPU, or some of its layers: a profile may put none there."""
        layers = self.resolved.value("n_gpu_layers") if isinstance(self.entry, LlamaEntry) else None
        return bool(self.gpus) and layers != 0

    @property
    def budget(self) -> int | None:
        """Bytes of GPU memory that the engine may take, all its GPUs together."""
        return memory_budget(self.resolved, self.gpus) if self.on_gpu else None


def prepare(
    settings: Settings,
    entry: ModelEntry,
    gpus: Sequence[Gpu],
    profile: str | None = None,
    threads: int | None = None,
) -> Start:
    """Choose the profile (or take the one named) and resolve the entry's settings; `threads` win over both.

    Raises:
        InvalidConfig: the hardware file is wrong, or no profile fits.
    """
    hardware, cpu = load_hardware(settings.hardware), this_cpu()
    chosen = choose_profile(hardware, gpus, cpu, profile)
    resolved = resolve(entry, chosen)
    if isinstance(entry, OnnxEntry) and gpus and not on_nvidia(resolved.value("execution_providers")):
        # it runs on the processor, so the processor's profile is its own
        gpus, chosen = (), choose_profile(hardware, (), cpu, profile)
        resolved = resolve(entry, chosen)
    resolved = resolved.with_threads(threads, free_cores())
    if isinstance(entry, LlamaEntry):
        check_split(entry.model_name, resolved, gpus)
        resolved = resolved.with_whole(_whole_rows(settings, entry))
    return Start(entry, tuple(gpus), chosen, resolved)


def _whole_rows(settings: Settings, entry: LlamaEntry) -> WholeRows | None:
    if not entry.embedding and entry.mmproj_path is None:
        return None
    return whole_rows(entry, _header(settings, entry.model_path), _header(settings, entry.mmproj_path))


def _header(settings: Settings, path: str | None) -> GgufHeader | None:
    """A file's header, None without one: what is wrong with a file the engine says when it loads it."""
    if path is None:
        return None
    try:
        return read_header(Path(root_path(models_root(settings), path)))
    except EngineError:
        return None


def models_root(settings: Settings) -> str:
    """The folder from which the catalogue's paths are taken."""
    return str(settings.models.resolve().parent.parent)


def check_split(model: str, resolved: Resolved, gpus: Sequence[Gpu]) -> None:
    """Refuse settings that name GPUs which the worker does not have, or leave some of its GPUs idle.

    Raises:
        InvalidConfig: naming the setting.
    """
    if not gpus:
        return
    parts, main = resolved.value("tensor_split"), resolved.value("main_gpu")
    if len(gpus) > 1 and resolved.value("split_mode") == "none":
        field, why = "split_mode", f"the worker has {len(gpus)} GPUs, and split_mode none uses one"
        remedy = "set split_mode to layer (or row), or name one GPU"
    elif parts is not None and len(parts) != len(gpus):
        field, why = "tensor_split", f"tensor_split has {len(parts)} parts, and the worker {len(gpus)} GPUs"
        remedy = "give a part for each GPU named in --gpu"
    elif main >= len(gpus):
        field, why = "main_gpu", f"main_gpu is {main}, and the worker has {len(gpus)} GPUs, counted from 0"
        remedy = "count within the GPUs named in --gpu, not within the machine's"
    else:
        return
    raise InvalidConfig(why, field=f"model {model!r}: {field}", remedy=remedy)


def memory_budget(resolved: Resolved, gpus: Sequence[Gpu]) -> int | None:
    """The budget in bytes: as it stands, or a share of the GPUs' memory."""
    budget = resolved.value("memory_budget")
    if budget is None:
        return None
    return int(budget * sum(gpu.memory for gpu in gpus)) if budget < 1 else int(budget)


def start_engine(settings: Settings, start: Start) -> EngineProcess:
    """An engine with the entry's model loaded, pinned and checked.

    Raises:
        InvalidConfig: the model cannot be loaded, or not on this GPU.
    """
    root = models_root(settings)
    environ = pin_environment(start.gpus) | _import_path() | spinning(settings, start.profile)
    if start.on_gpu and isinstance(start.entry, LlamaEntry):
        check_build(start, _facts(environ))
    locks = tuple(str(settings.locks / f"batchyard-{gpu.uuid}.lock") for gpu in start.gpus)
    model = engine_model(
        start.entry,
        root,
        start.resolved,
        on_gpu=start.on_gpu,
        memory_budget=start.budget,
        load_locks=locks,
    )
    engine = EngineProcess(PROGRAMS[start.entry.engine], model, environ)
    try:
        engine.wait_ready(LOAD_SECONDS)
        if start.on_gpu:
            held = [memory_held(engine.pid, gpu) for gpu in start.gpus]
            check_placed(start, held, host_pids=sees_host_pids())
    except YardError:
        engine.end(grace=0.5)
        raise
    return engine


def check_build(start: Start, build: BuildFacts) -> None:
    """Refuse a build that cannot run on these GPUs; log what is merely doubtful.

    Raises:
        InvalidConfig: code `gpu_unusable`.
    """
    for finding in gpu_findings(start.gpus, start.profile, build):
        if finding.fatal:
            raise InvalidConfig(finding.message, code="gpu_unusable", field="--gpu", remedy=finding.remedy)
        logger.warning("%s; %s", finding.message, finding.remedy)


def check_placed(start: Start, held: Sequence[Held], *, host_pids: bool) -> None:
    """Refuse an engine that is not on its GPUs, or takes more than its budget; `held` is what it has on each.

    Without `host_pids` (in a container) NVML knows the engine under another process id, if at all. Then a
    card whose free memory has hardly fallen is logged, no more: others may have given some back meanwhile.

    Raises:
        InvalidConfig: code `gpu_unusable` or `over_memory_budget`.
    """
    for gpu, one in zip(start.gpus, held, strict=True):
        if one.others_only and host_pids:
            raise InvalidConfig(
                f"the engine is loaded, and NVML does not list it on {gpu.uuid} ({gpu.name})",
                code="gpu_unusable",
                field="--gpu",
                remedy="look at the engine's log (verbose: true in the catalogue), or run it on the CPU: "
                "--gpu none",
            )
        if one.size is None and one.free is not None and gpu.free - one.free < LEAST_TAKEN:
            logger.warning(
                "the engine is loaded, and the free memory of %s (%s) went from %d to %d MiB: is it there?",
                gpu.uuid, gpu.name, gpu.free >> 20, one.free >> 20,
            )  # fmt: skip
    known = [one.size for one in held if one.size is not None]
    budget = start.budget
    if budget is not None and sum(known) > budget:
        raise InvalidConfig(
            f"the engine takes {sum(known) / 2**20:,.0f} MiB of GPU memory, more than its budget of "
            f"{budget / 2**20:,.0f} MiB",
            code="over_memory_budget",
            field="memory_budget",
            remedy="lower n_slots or n_ctx, quantise the cache (type_k, type_v), or raise the budget"
            if isinstance(start.entry, LlamaEntry)
            else "lower n_slots or max_length, or raise the budget",
        )


def spinning(settings: Settings, profile: Profile) -> dict[str, str]:
    """The bound of OpenMP's spinning: the environment's, where it sets one, else the profile's."""
    given = "omp_spin_count" in settings.model_fields_set
    count = settings.omp_spin_count if given else profile.omp_spin_count
    return {} if count is None else {"GOMP_SPINCOUNT": str(count)}


def free_cores() -> int:
    """Cores for the engine's threads: those this process may use, less one for Celery, which feeds it.

    On two cores a worker with one thread did nearly twice the jobs of one with two (`benchmarks/`): a step
    waits for its slowest thread, and that one was sharing its core.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _facts(environ: dict[str, str]) -> BuildFacts:
    try:
        return build_facts(os.environ | environ)
    except EngineError as exc:
        raise InvalidConfig(exc.message, code=exc.code, field=exc.field, remedy=exc.remedy) from exc


def _import_path() -> dict[str, str]:
    """The engine child imports `workers` from this checkout, wherever the operator stands."""
    here = str(Path(__file__).resolve().parent.parent)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
