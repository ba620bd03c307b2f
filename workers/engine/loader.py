"""From settings to a loaded model with its memory, checked step by step so that each failure has its own
words.

It is where the sizes are decided: threads, cells, kept beginnings, forks. It knows no requests.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engine.constraint import Grammars
from workers.engine.environment import choose_threads
from workers.engine.estimate import check_fits, planned_memory
from workers.engine.gguf_file import GgufHeader, read_header
from workers.engine.llama.build import build_name, devices, offloads_to_gpu, system_info
from workers.engine.llama.context import Context
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.llama.vision import Projector
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.load_lock import held
from workers.engine.memory import Memory
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook, file_identity, sha256_of
from workers.engine.prompt import PromptBuilder
from workers.engine.shape import (
    CHOICE_ROWS,
    ContextShape,
    choose_in_graph,
    choose_kept_cells,
    choose_min_shared,
    choose_unified,
    plan_shape,
)
from workers.engine.smoke import SMOKE_OK, prove


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything the engine's loop works with. `capacity` is the number of cells a slot may use."""

    settings: EngineModel
    context: Context
    vocabulary: Vocabulary
    grammars: Grammars
    prompts: PromptBuilder
    memory: Memory
    projector: Projector | None
    capacity: int
    n_cells: int
    unified: bool
    shares_prefixes: bool
    rewinds: bool
    budget: int
    whole_images: bool
    choice_rows: int
    info: dict[str, Any]
    close: Callable[[], None]


def load(settings: EngineModel, *, notebook: Notebook | None = None) -> Runtime:
    """Load a model, one at a time on a GPU. Raises EngineError: model_file_invalid, out_of_memory,
    template_failed.
    """
    with held(settings.load_locks):
        return _load(settings, notebook or Notebook())


def _load(settings: EngineModel, notebook: Notebook) -> Runtime:
    path = Path(settings.model_path)
    header = read_header(path)
    n_threads = settings.n_threads or choose_threads()
    on_gpu = room_on_gpu(settings, header)
    proved = prove(settings, n_threads, notebook, on_gpu=on_gpu)
    log = Log(settings.verbose)
    model = Model(settings, use_extra_bufts=proved == SMOKE_OK, log=log)
    facts = model.facts()
    unified = choose_unified(settings, path.stat().st_size, on_gpu=on_gpu)
    shares = settings.prefix_cache and facts.copies_prefixes
    shape, kept, forks = plan_shape(settings, n_threads, unified=unified, shares=shares)
    context, projector, close = open_on(model, settings, shape, log, on_gpu=on_gpu)
    capacity = settings.n_ctx if unified else min(settings.n_ctx, context.cells_per_sequence)
    prompts = PromptBuilder(model.vocabulary, settings.chat_format or facts.chat_template, capacity)

    sizes = {
        "n_ctx": capacity,
        "n_slots": settings.n_slots,
        "n_threads": n_threads,
        "smoke": proved,
        "kv_unified": unified,
        "prefix_cache": shares,
        "in_graph_sampling": choose_in_graph(settings, on_gpu=on_gpu),
        "chat_template": prompts.has_template,
    }
    return Runtime(
        settings=settings,
        context=context,
        vocabulary=model.vocabulary,
        grammars=Grammars(model.vocabulary),
        prompts=prompts,
        memory=memory_over(context, settings, shape, kept, forks),
        projector=projector,
        capacity=capacity,
        n_cells=shape.n_cells,
        unified=unified,
        shares_prefixes=shares,
        rewinds=facts.rewinds,
        budget=shape.n_batch - CHOICE_ROWS,
        whole_images=projector is not None and projector.non_causal,
        choice_rows=CHOICE_ROWS,
        info=sizes | identity(settings, header, model, notebook),
        close=close,
    )


def memory_over(
    context: Context, settings: EngineModel, shape: ContextShape, kept: int, forks: int
) -> Memory:
    """The account of a context's cells and sequence ids; `kept` and `forks` as `plan_shape` gave them."""
    return Memory(
        context,
        settings.n_slots,
        n_cells=shape.n_cells,
        kept=kept,
        kept_cells=choose_kept_cells(settings, kept, unified=shape.unified),
        forks=forks,
        unified=shape.unified,
        min_shared=choose_min_shared(settings, unified=shape.unified),
    )


def open_on(
    model: Model, settings: EngineModel, shape: ContextShape, log: Log, *, on_gpu: bool
) -> tuple[Context, Projector | None, Callable[[], None]]:
    """The memory over a model, its image encoder if it has one, and what frees them and the model.

    Raises EngineError (out_of_memory, model_file_invalid), with everything freed.
    """
    with ExitStack() as undo:
        undo.callback(model.close)
        slots = settings.n_slots if choose_in_graph(settings, on_gpu=on_gpu) else 0
        context = Context(model, settings, shape, log, device_slots=slots)
        undo.callback(context.close)
        projector = None
        if settings.mmproj_path is not None:
            read_header(Path(settings.mmproj_path))
            offload = on_gpu and settings.mmproj_offload
            projector = Projector(
                model, settings.mmproj_path, settings, shape.n_threads_batch, log, on_gpu=offload
            )
            undo.callback(projector.close)
        return context, projector, undo.pop_all().close


def room_on_gpu(settings: EngineModel, header: GgufHeader) -> bool:
    """Whether layers go onto a GPU, which must then have room for them. For an embedding model that is an
    upper bound: most have no KV cache. Raises EngineError (out_of_memory).
    """
    if settings.n_gpu_layers == 0 or not offloads_to_gpu():
        return False
    free = sum(device.free for device in devices() if device.kind == "gpu")
    check_fits(planned_memory(settings, header, on_gpu=True), free, settings)
    return True


def identity(settings: EngineModel, header: GgufHeader, model: Model, notebook: Notebook) -> dict[str, Any]:
    """What the model and the library are, for the `ready` frame and every result's provenance."""
    path = Path(settings.model_path)
    facts = model.facts()
    return {
        "model_name": settings.model_name,
        "model_path": settings.model_path,
        "model_sha256": _digest(path, notebook),
        "mmproj_sha256": None
        if settings.mmproj_path is None
        else _digest(Path(settings.mmproj_path), notebook),
        "quantisation": header.quantisation,
        "architecture": header.architecture,
        "n_params": facts.n_params,
        "n_ctx_train": facts.n_ctx_train,
        "n_vocab": facts.n_vocab,
        "llama_build": build_name(),
        "system_info": system_info(),
    }


def _digest(path: Path, notebook: Notebook) -> str:
    return notebook.remember("sha256", file_identity(path), lambda: sha256_of(path))
