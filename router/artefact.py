"""The trained classifier on disk: `classifier.npz` (plain arrays) and `classifier.json` (all the rest).

No pickle is written or read. Files that do not belong together, are damaged or of another format are refused.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from batchyard.errors import InvalidConfig
from batchyard.job import Name
from router.baselines import Baselines
from router.characters import character_grams
from router.classifier import Classifier
from router.features import Vocabulary
from router.normalise import NORMALISER
from router.words import word_grams

FORMAT = 1
ARRAYS = "classifier.npz"
METADATA = "classifier.json"
_RETRAIN = "train again: python -m router train training/data/routing_train.jsonl"


class Metadata(BaseModel):
    """Everything about a classifier but its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    normaliser: int = NORMALISER
    classes: Annotated[tuple[Name, ...], Field(min_length=2)]
    rejects: bool
    temperature: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    arrays_sha256: str
    baselines: Baselines
    training: dict[str, JsonValue]


def save(folder: Path, classifier: Classifier, baselines: Baselines, training: dict[str, Any]) -> str:
    """Write both files into `folder` and return the version of the artefact. Same training, same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        characters=np.array(classifier.vocabulary.characters.ngrams, dtype=np.str_),
        words=np.array(classifier.vocabulary.words.ngrams, dtype=np.str_),
        weights=classifier.weights,
        bias=classifier.bias,
    )
    arrays = buffer.getvalue()
    metadata = Metadata(
        classes=classifier.classes,
        rejects=classifier.rejects,
        temperature=classifier.temperature,
        threshold=classifier.threshold,
        arrays_sha256=hashlib.sha256(arrays).hexdigest(),
        baselines=baselines,
        training=training,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARRAYS).write_bytes(arrays)
    text = json.dumps(metadata.model_dump(mode="json"), ensure_ascii=False, indent=2)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")
    return version_of(metadata)


def version_of(metadata: Metadata) -> str:
    """The name of an artefact, as routes carry it: it changes with every weight and with the threshold."""
    text = metadata.model_dump_json(exclude={"training"})
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_metadata(folder: Path) -> Metadata:
    """What stands in the artefact's JSON file.

    Raises:
        InvalidConfig: code `invalid_classifier`.
    """
    path = folder / METADATA
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise _fault(f"cannot read it: {exc.strerror}", path) from exc
    except ValueError as exc:
        raise _fault(f"is no JSON: {exc}", path) from exc
    for key, supported in (("format", FORMAT), ("normaliser", NORMALISER)):
        found = data.get(key) if isinstance(data, dict) else None
        if found != supported:
            raise _fault(f"{key} is {found!r}, this router reads {supported}", path)
    try:
        return Metadata.model_validate(data)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise _fault(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", path) from None


def load(folder: Path) -> Classifier:
    """The classifier in `folder`.

    Raises:
        InvalidConfig: code `invalid_classifier`, saying what is missing, damaged or of another format.
    """
    metadata = load_metadata(folder)
    path = folder / ARRAYS
    try:
        raw = path.read_bytes()
    except OSError as exc:
        raise _fault(f"cannot read it: {exc.strerror}", path) from exc
    if hashlib.sha256(raw).hexdigest() != metadata.arrays_sha256:
        raise _fault(f"is damaged, or not of the same training as {METADATA} beside it", path)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            ngrams = tuple(arrays["characters"].tolist())
            words = word_grams(arrays["words"].tolist())
            weights, bias = (arrays[name].astype(np.float32) for name in ("weights", "bias"))
        vocabulary = Vocabulary(character_grams(ngrams), words)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as exc:
        raise _fault(f"does not hold the arrays of a classifier: {exc}", path) from exc
    if vocabulary.characters.ngrams != ngrams:
        raise _fault("its n-grams are not in the order of their codes", path)
    width = len(metadata.classes) + metadata.rejects
    if weights.shape != (len(vocabulary), width) or bias.shape != (width,):
        raise _fault("the shapes of its arrays do not fit each other", path)
    if not all(np.isfinite(array).all() for array in (weights, bias)):
        raise _fault("has weights that are not finite", path)
    return Classifier(
        classes=metadata.classes,
        vocabulary=vocabulary,
        weights=weights,
        bias=bias,
        rejects=metadata.rejects,
        temperature=metadata.temperature,
        threshold=metadata.threshold,
        version=version_of(metadata),
    )


def _fault(message: str, path: Path) -> InvalidConfig:
    return InvalidConfig(message, code="invalid_classifier", field=str(path), remedy=_RETRAIN)
