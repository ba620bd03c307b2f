import io
import json
from dataclasses import replace

import numpy as np
import pytest

from batchyard.errors import InvalidConfig
from router import artefact


@pytest.fixture
def folder(tmp_path, trained):
    artefact.save(tmp_path, trained.classifier, trained.baselines, {"rows": 120})
    return tmp_path


def test_what_was_saved_is_what_serves(folder, trained, rows):
    texts = [row.text for row in rows]
    loaded = artefact.load(folder)
    np.testing.assert_array_equal(
        loaded.probabilities(texts), trained.classifier.probabilities(texts), strict=True
    )
    assert loaded.threshold == trained.classifier.threshold
    assert artefact.load_metadata(folder).baselines == trained.baselines


def test_same_training_same_bytes(folder, tmp_path_factory, trained):
    other = tmp_path_factory.mktemp("other")
    artefact.save(other, trained.classifier, trained.baselines, {"rows": 120})
    for name in (artefact.ARRAYS, artefact.METADATA):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_the_version_follows_weights_and_threshold(tmp_path, trained):
    def version(classifier):
        return artefact.save(tmp_path, classifier, trained.baselines, {})

    base = version(trained.classifier)
    assert version(replace(trained.classifier, threshold=0.123)) != base
    assert version(replace(trained.classifier, weights=trained.classifier.weights * 2)) != base
    assert artefact.load(tmp_path).version == version(
        replace(trained.classifier, weights=trained.classifier.weights * 2)
    )


def change(folder, **values):
    path = folder / artefact.METADATA
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | values))


def change_arrays(folder, **values):
    with np.load(folder / artefact.ARRAYS) as arrays:
        kept = {name: arrays[name] for name in arrays.files} | values
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: value for name, value in kept.items() if value is not None})
    (folder / artefact.ARRAYS).write_bytes(buffer.getvalue())
    import hashlib

    change(folder, arrays_sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / artefact.METADATA).unlink(), "cannot read it"),
        (lambda f: (f / artefact.METADATA).write_text("{"), "is no JSON"),
        (lambda f: (f / artefact.METADATA).write_text("[]"), "format is None"),
        (lambda f: change(f, format=2), "format is 2, this router reads 1"),
        (lambda f: change(f, normaliser=9), "normaliser is 9"),
        (lambda f: change(f, threshold=3), "threshold"),
        (lambda f: change(f, surprise=1), "surprise"),
        (lambda f: (f / artefact.ARRAYS).unlink(), "cannot read it"),
        (lambda f: (f / artefact.ARRAYS).write_bytes(b"x"), "is damaged, or not of the same training"),
        (lambda f: change_arrays(f, bias=None), "does not hold the arrays"),
        (lambda f: change_arrays(f, bias=np.zeros(9, np.float32)), "shapes"),
        (lambda f: change_arrays(f, bias=np.full(3, np.nan, np.float32)), "not finite"),
        (lambda f: change_arrays(f, characters=np.array(["b", "a"])), "order"),
        (lambda f: change_arrays(f, bias=np.array([{}], dtype=object)), "does not hold the arrays"),
    ],
)
def test_what_does_not_belong_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(InvalidConfig) as caught:
        artefact.load(folder)
    assert message in caught.value.message
    assert caught.value.code == "invalid_classifier"
    assert "python -m router train" in (caught.value.remedy or "")
