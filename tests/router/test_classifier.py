from dataclasses import replace

import numpy as np
import pytest

from router.rows import OUT_OF_SCOPE
from router.train import as_sparse


def test_probabilities_are_those_of_scikit_learn(trained, rows):
    texts = [row.text for row in rows] + ["a text of no job", "桥", "where is worker 3?"]
    classifier = replace(trained.classifier, temperature=1.0)
    ours = classifier.probabilities(texts)
    columns = list(trained.logistic.classes_)
    theirs = trained.logistic.predict_proba(as_sparse(classifier.vocabulary, texts))
    inside = theirs[:, [columns.index(name) for name in classifier.classes]]
    np.testing.assert_allclose(ours, inside, atol=1e-5)
    np.testing.assert_array_equal(ours.argmax(axis=1), inside.argmax(axis=1))
    np.testing.assert_allclose(1 - ours.sum(axis=1), theirs[:, columns.index(OUT_OF_SCOPE)], atol=1e-5)


def test_a_text_gets_the_same_alone_and_in_a_chunk(trained, rows):
    texts = [row.text for row in rows[:30]]
    together = trained.classifier.probabilities(texts)
    alone = np.concatenate([trained.classifier.probabilities([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_long_texts_are_worked_through_in_parts(trained):
    texts = [("solder bridge at C4 " * 200) for _ in range(250)]  # 500,000 characters after clipping
    found = trained.classifier.probabilities(texts)
    assert found.shape == (250, 2)
    np.testing.assert_allclose(
        found, np.tile(trained.classifier.probabilities(texts[:1]), (250, 1)), atol=1e-9
    )


def test_no_texts_give_no_rows(trained):
    assert trained.classifier.probabilities([]).shape == (0, 2)


def test_the_temperature_flattens_but_keeps_the_order(trained):
    texts = ["C4 has a solder bridge", "how do I cancel?"]
    sharp = replace(trained.classifier, temperature=0.5).probabilities(texts)
    flat = replace(trained.classifier, temperature=3.0).probabilities(texts)
    assert sharp.max() > flat.max()
    np.testing.assert_array_equal(sharp.argmax(axis=1), flat.argmax(axis=1))


@pytest.mark.parametrize("text", ["ЖЖЖ", "asdf qwer zxcv", "12345", "?!", "brdg sldr"])
def test_a_text_without_a_known_word_is_out_of_scope(trained, text):
    found = trained.classifier.probabilities([text, "solder bridge"])
    assert trained.classifier.scope(found)[0] == 0.0 < trained.classifier.scope(found)[1]


def test_scope_without_a_class_for_it_is_the_best_probability(trained):
    classifier = replace(trained.classifier, rejects=False)
    assert classifier.scope(np.array([[0.7, 0.3], [0.4, 0.6]])).tolist() == [0.7, 0.6]


def test_evidence_names_what_spoke_for_a_class(trained):
    evidence = trained.classifier.evidence("C4 on panel 9 has a solder bridge", "defect")
    assert evidence == sorted(evidence, key=lambda pair: -pair[1])
    assert any("solder" in name or "bridge" in name for name, _ in evidence)
