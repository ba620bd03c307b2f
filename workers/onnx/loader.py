"""From a `load` frame to a classifier that has run once.

It knows no requests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from workers.engine.load_lock import held
from workers.engine.notebook import Notebook, file_identity, sha256_of
from workers.onnx.backend import OnnxBackend
from workers.onnx.classifier import load_classifier
from workers.onnx.model import OnnxModel
from workers.port.settings import read_entry


async def load(frame: Any) -> OnnxBackend:
    """A backend for the entry in the frame, loaded one at a time on a GPU. Raises EngineError
    (model_file_invalid, gpu_locked).
    """
    entry = read_entry(OnnxModel, frame)
    with held(entry.load_locks):
        classifier = load_classifier(entry)
    path = Path(entry.model_path)
    identity = {
        "model_sha256": Notebook().remember("sha256", file_identity(path), lambda: sha256_of(path)),
        "quantisation": classifier.quantisation,
        "engine": f"onnxruntime {onnxruntime.__version__} {classifier.providers[0]}",
    }
    return OnnxBackend(entry, classifier, identity)
