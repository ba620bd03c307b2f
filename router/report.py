"""What a classifier is worth on labelled rows, beside routers that do not read. Pure numpy; no training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.baselines import Baselines
from router.classifier import Classifier
from router.language import language
from router.rows import OUT_OF_SCOPE, Row

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 of one class among the rows in scope, and its number of rows."""

    task: str
    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True, slots=True)
class Report:
    """Figures over labelled rows; shares are 0–1, None where there are no rows to tell.

    `accuracy` and `macro_f1` are the nearest class's, threshold left aside, over rows in scope. `coverage` is
    the share of those that is accepted, `accuracy_accepted` the share of the accepted that is right,
    `refused` the share of out-of-scope rows that is refused, `routed_right` the share of all rows that ends
    where it belongs.
    """

    rows: int
    out_of_scope_rows: int
    accuracy: float
    macro_f1: float
    by_class: tuple[ClassScore, ...]
    by_language: dict[str, float]
    auroc: float | None
    threshold: float
    coverage: float
    accuracy_accepted: float | None
    refused: float | None
    routed_right: float
    majority_accuracy: float
    length_accuracy: float
    unknown_tasks: tuple[str, ...]


def evaluate(classifier: Classifier, baselines: Baselines, rows: Sequence[Row]) -> Report:
    """Score `classifier` on rows with their tasks; a task it never learned counts as wrong."""
    probabilities = classifier.probabilities([row.text for row in rows])
    scope = classifier.scope(probabilities)
    predicted = np.array(classifier.classes)[probabilities.argmax(axis=1)]
    truth = np.array([row.task for row in rows])
    inside = truth != OUT_OF_SCOPE
    right = predicted == truth
    accepted = scope >= classifier.threshold
    by_class = _by_class(truth[inside], predicted[inside])
    languages = np.array([language(row.text) for row in rows])
    return Report(
        rows=len(rows),
        out_of_scope_rows=int((~inside).sum()),
        accuracy=_share(right, inside) or 0.0,
        macro_f1=float(np.mean([score.f1 for score in by_class])) if by_class else 0.0,
        by_class=by_class,
        by_language={
            name: float(right[chosen].mean())
            for name in sorted(set(languages.tolist()))
            if (chosen := inside & (languages == name)).any()
        },
        auroc=auroc(scope[inside], scope[~inside]),
        threshold=classifier.threshold,
        coverage=_share(accepted, inside) or 0.0,
        accuracy_accepted=_share(right, inside & accepted),
        refused=_share(~accepted, ~inside),
        routed_right=float(np.where(inside, right & accepted, ~accepted).mean()),
        majority_accuracy=_share(truth == baselines.majority, inside) or 0.0,
        length_accuracy=_share(baselines.guess_by_length(rows) == truth, inside) or 0.0,
        unknown_tasks=tuple(sorted(set(truth[inside].tolist()) - set(classifier.classes))),
    )


def auroc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float | None:
    """The chance that a value of `higher` is above one of `lower`, ties half; None if either is empty."""
    if not len(higher) or not len(lower):
        return None
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left")
    ties = np.searchsorted(ordered, higher, side="right") - below
    return float((below + ties / 2).mean() / len(lower))


def as_text(report: Report) -> str:
    """The report as a reader wants it on a terminal."""
    lines = [
        f"rows                     {report.rows:,} ({report.out_of_scope_rows:,} out of scope)",
        f"accuracy, in scope       {report.accuracy:.2%}   macro-F1 {report.macro_f1:.4f}",
        "  by language            "
        + "   ".join(f"{name} {share:.2%}" for name, share in report.by_language.items()),
        f"  always the majority    {report.majority_accuracy:.2%}",
        f"  by length alone        {report.length_accuracy:.2%}",
        f"out-of-scope AUROC       {_or_dash(report.auroc, '.4f')}",
        f"at threshold {report.threshold:.3f}:",
        f"  in scope, accepted     {report.coverage:.2%}, "
        f"of these right {_or_dash(report.accuracy_accepted)}",
        f"  out of scope, refused  {_or_dash(report.refused)}",
        f"  all rows routed right  {report.routed_right:.2%}",
        "",
        f"{'task':<20} {'precision':>9} {'recall':>9} {'F1':>9} {'rows':>7}",
    ]
    lines += [
        f"{score.task:<20} {score.precision:>9.4f} {score.recall:>9.4f} {score.f1:>9.4f} {score.rows:>7,}"
        for score in report.by_class
    ]
    if report.unknown_tasks:
        lines.append(f"tasks the classifier never learned: {', '.join(report.unknown_tasks)}")
    return "\n".join(lines)


def _by_class(truth: NDArray[np.str_], predicted: NDArray[np.str_]) -> tuple[ClassScore, ...]:
    scores = []
    for task in sorted(set(truth.tolist())):
        both = int(((truth == task) & (predicted == task)).sum())
        there, said = int((truth == task).sum()), int((predicted == task).sum())
        f1 = 2 * both / (there + said)
        scores.append(ClassScore(task, both / said if said else 0.0, both / there, f1, there))
    return tuple(scores)


def _share(of: Bools, among: Bools) -> float | None:
    return float(of[among].mean()) if among.any() else None


def _or_dash(value: float | None, form: str = ".2%") -> str:
    return "–" if value is None else format(value, form)
