import numpy as np
import pytest

from router.features import learn
from router.folds import group_folds
from router.rows import InvalidRows, Row
from router.train import Options, as_sparse, train


def test_learns_the_rows_and_refuses_what_is_out_of_scope(trained, rows):
    classifier = trained.classifier
    found = classifier.probabilities([row.text for row in rows])
    scope = classifier.scope(found)
    inside = np.array([row.task != "oos" for row in rows])
    named = np.array(classifier.classes)[found.argmax(axis=1)]
    assert (named == [row.task for row in rows])[inside].all()
    assert scope[inside].min() > scope[~inside].max()


def test_same_rows_same_classifier(trained, rows):
    again = train(rows, Options(folds=3, groups=4))
    np.testing.assert_array_equal(again.classifier.weights, trained.classifier.weights)
    assert again.classifier.threshold == trained.classifier.threshold


def test_two_tasks_without_out_of_scope_rows(rows):
    two = train([row for row in rows if row.task != "oos"], Options(folds=3, groups=4))
    classifier = two.classifier
    assert not classifier.rejects
    found = classifier.probabilities(["C4 has a solder bridge", "怎么取消任务?"])
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-9)
    assert [classifier.classes[i] for i in found.argmax(axis=1)] == ["defect", "faq"]
    theirs = two.logistic.predict_proba(as_sparse(classifier.vocabulary, ["C4 has a solder bridge"]))
    logits = classifier.logits(classifier.vocabulary.rows(["C4 has a solder bridge"]))
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), theirs, atol=1e-5)


@pytest.mark.parametrize(
    "tasks, message",
    [
        ({"faq": 20}, "rows of faq only"),
        ({"faq": 20, "oos": 20}, "rows of faq, oos only"),
        ({"faq": 20, "defect": 9}, "the task defect has 9 rows"),
    ],
)
def test_too_few_rows_are_refused(tasks, message):
    rows = [Row(f"{task} {i}", task, 1) for task, count in tasks.items() for i in range(count)]
    with pytest.raises(InvalidRows, match=message):
        train(rows)


def test_rows_that_are_alike_share_a_fold():
    texts = [f"the solder joint at R{i} is open" for i in range(20)]
    texts += [f"怎么取消任务 {i}" for i in range(20)] + [
        f"completely other words, {i} times" for i in range(20)
    ]
    matrix = as_sparse(learn(texts, (1, 3), 2, 1000), texts)
    folds = group_folds(matrix, np.array(["one task"] * 60), 3, 3, 0)
    assert [len(set(folds[start : start + 20].tolist())) for start in (0, 20, 40)] == [1, 1, 1]
    assert set(folds.tolist()) == {0, 1, 2}
