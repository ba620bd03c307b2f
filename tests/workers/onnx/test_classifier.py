"""A real int8 model in ONNX Runtime: padding, fixed sizes, and what is wrong with a model's entry."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workers.onnx.tiny_classifier import LABELS, WORDS, is_int8, write_classifier
from workers.engine.errors import EngineError
from workers.onnx.classifier import Classifier, load_classifier
from workers.onnx.model import OnnxModel

TEXTS = [" ".join([word] * length) for length, word in enumerate(WORDS, start=1)]


def load(path: Path, **settings: Any) -> Classifier:
    return load_classifier(
        OnnxModel.model_validate(
            {"model_name": "m", "engine": "onnx", "model_path": str(path), "n_threads": 1} | settings
        )
    )


def test_a_batch_gives_what_each_text_gives_alone(classifier_path: Path) -> None:
    assert is_int8(classifier_path)
    classifier = load(classifier_path)
    assert (classifier.labels, classifier.quantisation) == (LABELS, "int8")
    encoded = [classifier.encode(text) for text in TEXTS]
    together = classifier.run(encoded)
    alone = np.concatenate([classifier.run([one]) for one in encoded])
    np.testing.assert_array_equal(together, alone)
    known = [at for at, label in enumerate(WORDS.values()) if label is not None]
    assert [int(together[at].argmax()) for at in known] == [
        label for label in WORDS.values() if label is not None
    ]


def test_a_model_of_fixed_sizes_gets_them(classifier_path: Path, tmp_path: Path) -> None:
    fixed = load(write_classifier(tmp_path, rows=3, width=8))
    free = load(classifier_path)
    assert (fixed.rows, fixed.max_length) == (3, 8)
    texts = TEXTS[:2]
    np.testing.assert_array_equal(
        fixed.run([*map(fixed.encode, texts)]), free.run([*map(free.encode, texts)])
    )
    with pytest.raises(EngineError, match="9 tokens, the model takes 8"):
        fixed.encode("bridge " * 9)


def test_texts_that_do_not_fit_are_refused_not_cut(classifier_path: Path) -> None:
    classifier = load(classifier_path, max_length=4)
    assert len(classifier.encode("board at board at").ids) == 4
    with pytest.raises(EngineError) as caught:
        classifier.encode("board at board at board")
    assert caught.value.code == "prompt_too_long"
    with pytest.raises(EngineError) as caught:
        classifier.encode(" ")
    assert caught.value.code == "prompt_empty"


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        (
            {"execution_providers": ["VitisAIExecutionProvider"]},
            "execution_providers",
            "CPUExecutionProvider",
        ),
        ({"labels": ["a", "b"]}, "labels", "3] outputs a text, and there are 2 labels"),
        ({"model_path": "/nowhere.onnx"}, "model_path", "there is no file"),
        ({"tokenizer_path": "/nowhere.json"}, "tokenizer_path", "cannot read"),
    ],
)
def test_a_wrong_setting_is_named(
    classifier_path: Path, settings: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(EngineError) as caught:
        load(classifier_path, **settings)
    assert (caught.value.code, caught.value.field) == ("model_file_invalid", field)
    assert words in caught.value.message
    assert caught.value.remedy


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = write_classifier(tmp_path, metadata=False)
    with pytest.raises(EngineError) as caught:
        load(path)
    assert caught.value.field == "labels"
    assert load(path, labels=LABELS).labels == LABELS
    path.with_name("tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EngineError) as caught:
        load(path, labels=LABELS)
    assert caught.value.field == "tokenizer_path"
    path.write_bytes(b"\x08garbage")
    with pytest.raises(EngineError) as caught:
        load(path, labels=LABELS)
    assert (caught.value.field, "cannot load" in caught.value.message) == ("model_path", True)
