"""A child process decodes several rows with this model and build, before the worker trusts them.

Some builds of llama.cpp die on quantised models as soon as a batch has more than one row. The child dies
instead of the worker; then the same is tried without the extra buffer types that repack weights. The result
is remembered for the model file, the build and the machine's processor.

Run as `python -m workers.engine.smoke`: it reads {"model": …, "n_threads": …, "use_extra_bufts": …} from
its input.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from workers.engine.errors import MODEL_FILE_INVALID, EngineError
from workers.engine.model import EngineModel
from workers.engine.notebook import Notebook, file_identity

SMOKE_OK: Final = "ok"
SMOKE_NO_EXTRA: Final = "no_extra_bufts"
_REFUSED: Final = 3
"""Exit status of a child that met an error and printed it."""
_ROWS: Final = (2, 8, 64)
_TIMEOUT_S: Final = 600.0


def prove(settings: EngineModel, n_threads: int, notebook: Notebook, *, on_gpu: bool = False) -> str:
    """SMOKE_OK or SMOKE_NO_EXTRA. Raises EngineError (model_file_invalid) when no setting survives.

    With every layer on a GPU the processor's kernels are not used, and nothing is tried.
    """
    if on_gpu and settings.n_gpu_layers == -1:
        return SMOKE_OK
    key = "|".join(
        (
            file_identity(Path(settings.model_path)),
            library_identity(),
            _processor(),
            f"{n_threads},{settings.n_gpu_layers},{settings.flash_attn},{settings.type_k},{settings.type_v}",
            str(settings.embedding),
        )
    )
    return notebook.remember("smoke", key, lambda: _find_out(settings, n_threads))


def library_identity() -> str:
    """Identity of the native libraries, without loading them."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    found = find_spec("llama_cpp")
    packages = list(found.submodule_search_locations or []) if found is not None else []
    folders = [Path(override)] if override else [Path(package) / "lib" for package in packages]
    files = sorted(path for folder in folders for path in folder.glob("*.so*"))
    return ",".join(f"{path.name}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


def _find_out(settings: EngineModel, n_threads: int) -> str:
    code, error = _run_child(settings, n_threads, use_extra_bufts=True)
    if code == 0:
        return SMOKE_OK
    if code < 0:
        code, error = _run_child(settings, n_threads, use_extra_bufts=False)
        if code == 0:
            return SMOKE_NO_EXTRA
    if error is not None:
        raise error
    raise EngineError(
        MODEL_FILE_INVALID,
        f"a trial decode of {settings.model_path} failed ({_describe(code)})",
        field="model",
        remedy="check the file; if it is sound, build llama.cpp for this processor and try again",
    )


def _describe(code: int) -> str:
    return f"the child died of signal {-code}" if code < 0 else f"exit status {code}"


def _run_child(
    settings: EngineModel, n_threads: int, *, use_extra_bufts: bool
) -> tuple[int, EngineError | None]:
    """The child's exit status, and the error that it met, if it lived to say so."""
    order = {"model": asdict(settings), "n_threads": n_threads, "use_extra_bufts": use_extra_bufts}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "workers.engine.smoke"],
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            stderr=None if settings.verbose else subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # a decode that never ends is as good as one that died: `run` has killed the child
        return -signal.SIGKILL, None
    if child.returncode != _REFUSED:
        return child.returncode, None
    said = json.loads(child.stdout)
    return child.returncode, EngineError(
        said["code"], said["message"], field=said["field"], remedy=said["remedy"]
    )


def decode_some_rows(settings: EngineModel, n_threads: int, *, use_extra_bufts: bool) -> None:
    """Decode batches of several sizes. Dies with the library where the build is broken."""
    from workers.engine.llama.context import Context
    from workers.engine.llama.log import Log
    from workers.engine.llama.model import Model
    from workers.engine.rows import RowWriter
    from workers.engine.shape import ContextShape

    log = Log(settings.verbose)
    model = Model(settings, use_extra_bufts=use_extra_bufts, log=log)
    most = max(_ROWS)
    shape = ContextShape(
        n_cells=4 * most,
        n_batch=most,
        n_ubatch=most,
        n_sequences=1,
        n_outputs=most,
        n_threads=n_threads,
        n_threads_batch=n_threads,
        unified=True,
    )
    context = Context(model, settings, shape, log)
    writer = RowWriter(context.batch)
    for rows in _ROWS:
        context.clear()
        writer.clear()
        writer.add_run(0, [token % model.vocabulary.size for token in range(rows)], 0, outputs="last")
        code = context.decode(writer.n_rows)
        if code != 0:
            raise EngineError(MODEL_FILE_INVALID, f"a decode of {rows} rows returned {code}", field="model")
        context.logits(1).sum()
    context.close()
    model.close()


def embed_some_rows(settings: EngineModel, n_threads: int, *, use_extra_bufts: bool) -> None:
    """The same for an embedding model."""
    from workers.engine.llama.log import Log
    from workers.engine.llama.model import Model
    from workers.engine.llama.pooled import PooledContext
    from workers.engine.rows import RowWriter

    log = Log(settings.verbose)
    model = Model(settings, use_extra_bufts=use_extra_bufts, log=log)
    context = PooledContext(model, settings, n_threads, log)
    writer = RowWriter(context.batch)
    for rows in (min(rows, context.facts.prompt) for rows in _ROWS):
        writer.clear()
        writer.add_run(0, [token % model.vocabulary.size for token in range(rows)], 0, outputs="all")
        code = context.encode(writer.n_rows)
        if code != 0:
            raise EngineError(MODEL_FILE_INVALID, f"a pass of {rows} rows returned {code}", field="model")
        context.vectors(1).sum()
    context.close()
    model.close()


def main() -> int:
    """The child's whole life; 0 when every decode returned."""
    order: dict[str, Any] = json.load(sys.stdin)
    settings = EngineModel.parse(order["model"])
    run_some_rows = embed_some_rows if settings.embedding else decode_some_rows
    try:
        run_some_rows(settings, order["n_threads"], use_extra_bufts=order["use_extra_bufts"])
    except EngineError as error:
        print(json.dumps(error.to_frame()))
        return _REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
