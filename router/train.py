"""Training: labelled rows in, a classifier with its threshold out. Needs scikit-learn.

Out-of-scope rows are a class of their own (`rejects`): they teach the classifier what in scope does not look
like, and the probability it gives them decides about scope. The temperature and the threshold are chosen on
folds whose wordings the predicting model has not seen (see `folds`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression

from router.baselines import Baselines, learn_baselines
from router.classifier import Classifier, Probabilities, softmax
from router.features import Vocabulary, learn
from router.folds import group_folds
from router.rows import OUT_OF_SCOPE, InvalidRows, Row
from router.threshold import Threshold, choose_threshold, fit_temperature

MIN_ROWS = 10
"""Rows a task needs at least."""
_NEVER = -30.0
"""Logit of a class that a fold's model has not met."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a classifier is trained; all of it is kept in the artefact.

    `orders`, `min_texts` and `largest` as in `features.learn`; `c` is scikit-learn's inverse regularisation;
    `copies` further copies of every row are trained on, in which each n-gram stays with the probability
    `keep`, so that no single word decides; `refuse` is the share of unseen
    out-of-scope rows that the threshold must refuse.
    """

    orders: tuple[int, int] = (1, 3)
    min_texts: int = 2
    largest: int = 40_000
    c: float = 10.0
    copies: int = 4
    keep: float = 0.3
    folds: int = 5
    groups: int = 15
    seed: int = 0
    refuse: float = 0.8


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier, the baselines of the same rows, the threshold with what it did on left-out wordings (and
    the accuracy there), and scikit-learn's own model for comparison."""

    classifier: Classifier
    baselines: Baselines
    threshold: Threshold
    accuracy: float
    logistic: LogisticRegression


def train(rows: Sequence[Row], options: Options | None = None) -> Trained:
    """Train on all rows; choose temperature and threshold on folds of them. Same rows, same classifier.

    Raises:
        InvalidRows: fewer than two tasks, or a task with too few rows.
    """
    options = options or Options()
    _check(rows)
    texts = [row.text for row in rows]
    labels = np.array([row.task for row in rows])
    classes = tuple(sorted(set(labels.tolist()) - {OUT_OF_SCOPE}))
    rejects = OUT_OF_SCOPE in labels
    columns = (*classes, OUT_OF_SCOPE) if rejects else classes
    logits = _unseen_logits(texts, labels, columns, options)
    temperature = fit_temperature(logits, np.array([columns.index(label) for label in labels.tolist()]))
    vocabulary, logistic = _fit(texts, labels, options)
    weights, bias = _ordered(logistic, columns)
    classifier = Classifier(
        classes=classes,
        vocabulary=vocabulary,
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        rejects=rejects,
        temperature=temperature,
        threshold=0.0,
        version="unsaved",
    )
    inside = softmax(logits / temperature)[:, : len(classes)]
    right = np.array(classes)[inside.argmax(axis=1)] == labels
    outside = labels == OUT_OF_SCOPE
    threshold = choose_threshold(classifier.scope(inside), right, outside, options.refuse)
    accuracy = float(right[~outside].mean())
    classifier = replace(classifier, threshold=threshold.at)
    return Trained(classifier, learn_baselines(rows), threshold, accuracy, logistic)


def as_sparse(vocabulary: Vocabulary, texts: Sequence[str]) -> sparse.csr_matrix:
    """The rows of texts, as scikit-learn takes them."""
    rows = vocabulary.rows(texts)
    shape = (len(texts), len(vocabulary))
    return sparse.csr_matrix((rows.values, rows.columns, rows.starts), shape=shape)


def _check(rows: Sequence[Row]) -> None:
    counts = Counter(row.task for row in rows)
    if len(set(counts) - {OUT_OF_SCOPE}) < 2:
        there = ", ".join(sorted(counts))
        raise InvalidRows(f"there are rows of {there} only", remedy="give at least two tasks")
    for task, count in counts.items():
        if count < MIN_ROWS:
            raise InvalidRows(
                f"the task {task} has {count} rows", remedy=f"give {MIN_ROWS} or more, better 50"
            )


def _fit(
    texts: Sequence[str], labels: NDArray[np.str_], options: Options
) -> tuple[Vocabulary, LogisticRegression]:
    try:
        vocabulary = learn(texts, options.orders, options.min_texts, options.largest)
    except ValueError as exc:
        raise InvalidRows(f"no features to learn: {exc}", remedy="give more, and more varied rows") from exc
    matrix = as_sparse(vocabulary, texts)
    thinned = [_thinned(matrix, options.keep, options.seed + copy) for copy in range(options.copies)]
    logistic = LogisticRegression(C=options.c, max_iter=1_000, class_weight="balanced")
    logistic.fit(sparse.vstack([matrix, *thinned]).tocsr(), np.tile(labels, options.copies + 1))
    return vocabulary, logistic


def _thinned(matrix: sparse.csr_matrix, keep: float, seed: int) -> sparse.csr_matrix:
    """A copy in which each value stays with the probability `keep`, scaled so that sums are as before."""
    copy = matrix.copy()
    copy.data = (copy.data * (np.random.default_rng(seed).random(copy.nnz) < keep) / keep).astype(np.float32)
    copy.eliminate_zeros()
    return copy


def _ordered(logistic: LogisticRegression, columns: Sequence[str]) -> tuple[Probabilities, Probabilities]:
    """Weights [n-grams, columns] and bias [columns]; scikit-learn has one row for two classes."""
    weights, bias = logistic.coef_, logistic.intercept_
    if len(weights) == 1:
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    order = [list(logistic.classes_).index(column) for column in columns]
    return weights[order].T, bias[order]


def _unseen_logits(
    texts: Sequence[str], labels: NDArray[np.str_], columns: Sequence[str], options: Options
) -> Probabilities:
    """Logits [rows, columns] of every row, by a model trained without the rows like it."""
    vocabulary = learn(texts, options.orders, options.min_texts, 10_000)
    folds = group_folds(as_sparse(vocabulary, texts), labels, options.folds, options.groups, options.seed)
    logits = np.full((len(texts), len(columns)), _NEVER)
    for fold in range(options.folds):
        rest = np.flatnonzero(folds != fold).tolist()
        left_out = np.flatnonzero(folds == fold).tolist()
        if not left_out:
            continue
        vocabulary, logistic = _fit([texts[i] for i in rest], labels[rest], options)
        known = [column for column in columns if column in logistic.classes_]
        weights, bias = _ordered(logistic, known)
        found = as_sparse(vocabulary, [texts[i] for i in left_out]) @ weights + bias
        logits[np.ix_(left_out, [columns.index(column) for column in known])] = found
    return logits
