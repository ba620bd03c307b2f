import numpy as np
import pytest

from router.baselines import learn_baselines
from router.report import as_text, auroc, evaluate
from router.rows import Row


class Told:
    """Stands in for a classifier: the probabilities are in the text itself."""

    classes = ("a", "b")
    threshold = 0.5

    def probabilities(self, texts):
        return np.array([[float(word) for word in text.split()[:2]] for text in texts])

    def scope(self, probabilities):
        return probabilities.sum(axis=1)


ROWS = [
    Row("0.9 0.0", "a", 1),
    Row("0.4 0.2", "a", 2),
    Row("0.6 0.1", "b", 3),
    Row("0.1 0.3 refused", "b", 4),
    Row("0.1 0.1", "oos", 5),
    Row("0.1 0.9", "oos", 6),
]


def test_figures():
    report = evaluate(Told(), learn_baselines(ROWS, bins=2), ROWS)
    assert (report.rows, report.out_of_scope_rows) == (6, 2)
    assert report.accuracy == 0.75  # the refused one is nearest to the right class
    assert [(s.task, s.precision, s.recall, s.rows) for s in report.by_class] == [
        ("a", pytest.approx(2 / 3), 1.0, 2),
        ("b", 1.0, 0.5, 2),
    ]
    assert report.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert (report.coverage, report.accuracy_accepted) == (0.75, pytest.approx(2 / 3))
    assert report.refused == 0.5
    assert report.routed_right == 0.5  # two accepted and right, one refused and out of scope, of six
    assert report.auroc == pytest.approx((4 * 1 + 0) / 8)
    assert report.majority_accuracy == 0.5


def test_auroc_counts_ties_half():
    assert auroc(np.array([1.0, 2.0]), np.array([0.0])) == 1.0
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5
    assert auroc(np.array([0.0]), np.array([1.0])) == 0.0
    assert auroc(np.array([]), np.array([1.0])) is None


def test_rows_in_scope_only_have_no_auroc_and_unknown_tasks_are_named():
    rows = [*ROWS[:4], Row("0.9 0.0", "new", 7)]
    report = evaluate(Told(), learn_baselines(rows), rows)
    assert report.auroc is None and report.refused is None
    assert report.unknown_tasks == ("new",)
    assert "never learned: new" in as_text(report)
    assert "–" in as_text(report)


def test_baselines_by_length():
    rows = [Row("x" * 5, "short", i) for i in range(30)] + [Row("x" * 50, "long", i) for i in range(20)]
    baselines = learn_baselines([*rows, Row("x" * 500, "oos", 9)], bins=2)
    assert baselines.majority == "short"
    asked = [Row("y" * 3, "?", 1), Row("y" * 60, "?", 1), Row("y" * 5, "?", 1)]
    assert baselines.guess_by_length(asked).tolist() == ["short", "long", "short"]


def test_a_trained_one_beats_both_baselines(trained, rows):
    report = evaluate(trained.classifier, trained.baselines, rows)
    assert report.accuracy == 1.0 and report.auroc == 1.0
    assert max(report.majority_accuracy, report.length_accuracy) < 1.0
    assert set(report.by_language) == {"en", "zh"}
