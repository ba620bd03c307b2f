"""From settings to a loaded embedding model, checked step by step. It knows no requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.engine.environment import choose_threads
from workers.engine.gguf_file import read_header
from workers.engine.llama.log import Log
from workers.engine.llama.model import Model
from workers.engine.llama.pooled import PooledContext
from workers.engine.llama.vocabulary import Vocabulary
from workers.engine.load_lock import held
from workers.engine.loader import identity, room_on_gpu
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook
from workers.engine.smoke import SMOKE_OK, prove


@dataclass(frozen=True, slots=True)
class EmbeddingRuntime:
    """Everything the embedder's loop works with."""

    settings: EngineModel
    context: PooledContext
    vocabulary: Vocabulary
    info: dict[str, Any]
    close: Callable[[], None]


def load_embedder(settings: EngineModel, *, notebook: Notebook | None = None) -> EmbeddingRuntime:
    """Load an embedding model, one at a time on a GPU. Raises EngineError: model_file_invalid,
    out_of_memory.
    """
    with held(settings.load_locks):
        return _load(settings, notebook or Notebook())


def _load(settings: EngineModel, notebook: Notebook) -> EmbeddingRuntime:
    header = read_header(Path(settings.model_path))
    n_threads = settings.n_threads or choose_threads()
    on_gpu = room_on_gpu(settings, header)
    proved = prove(settings, n_threads, notebook, on_gpu=on_gpu)
    log = Log(settings.verbose)
    model = Model(settings, use_extra_bufts=proved == SMOKE_OK, log=log)
    try:
        context = PooledContext(model, settings, n_threads, log)
    except BaseException:
        model.close()
        raise

    def close() -> None:
        context.close()
        model.close()

    sizes = {
        "n_ctx": context.facts.prompt,
        "n_slots": settings.n_slots,
        "n_threads": n_threads,
        "smoke": proved,
        "pooling_type": context.facts.pooling,
        "n_embd": context.facts.width,
    }
    return EmbeddingRuntime(
        settings=settings,
        context=context,
        vocabulary=model.vocabulary,
        info=sizes | identity(settings, header, model, notebook),
        close=close,
    )
