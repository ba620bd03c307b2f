"""Training: labelled rows in, a classifier with its threshold out. The only file that needs scikit-learn.

The threshold is chosen on predictions for wordings that the predicting model has not seen: rows are grouped
by likeness, and whole groups are left out in turn. Random folds would put two wordings of one template on
both sides and promise a confidence that new texts do not get.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression

from router.artefact import Baselines
from router.classifier import Classifier, Probabilities, softmax
from router.features import Ints, Vocabulary, learn
from router.rows import OUT_OF_SCOPE, InvalidRows, Row

MIN_ROWS = 10
"""Rows a task needs at least."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a classifier is trained; all of it goes into the artefact."""

    orders: tuple[int, int] = (1, 3)
    min_texts: int = 2
    largest: int = 40_000
    c: float = 10.0
    folds: int = 5
    groups: int = 15
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier, the baselines of the same rows, and how the threshold was found."""

    classifier: Classifier
    baselines: Baselines
    validation: dict[str, float | int]
    logistic: LogisticRegression
    """scikit-learn's own model, for comparison."""


def train(rows: Sequence[Row], options: Options | None = None) -> Trained:
    """Train on all rows, and choose the threshold on folds of them.

    Raises:
        InvalidRows: fewer than two tasks, or a task with too few rows.
    """
    options = options or Options()
    _check(rows)
    texts = [row.text for row in rows]
    labels = np.array([row.task for row in rows])
    classes = tuple(sorted(set(labels.tolist()) - {OUT_OF_SCOPE}))
    columns = (*classes, OUT_OF_SCOPE) if OUT_OF_SCOPE in labels else classes
    logits = _unseen_logits(texts, labels, columns, options)
    temperature = _temperature(logits, labels, columns)
    inside = softmax(logits / temperature)[:, : len(classes)]
    threshold, validation = choose_threshold(inside, labels, classes)
    words, logistic = _fit(texts, labels, options)
    order = [list(logistic.classes_).index(column) for column in columns]
    weights, bias = _columns(logistic, order)
    classifier = Classifier(
        classes=classes,
        vocabulary=words,
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        rejects=len(columns) > len(classes),
        temperature=temperature,
        threshold=threshold,
        version="untagged",
    )
    return Trained(classifier, baselines(rows), validation, logistic)


def choose_threshold(
    probabilities: Probabilities, labels: NDArray[np.str_], classes: Sequence[str]
) -> tuple[float, dict[str, float | int]]:
    """The threshold with the best mean of *in scope: right class and accepted* and *out of scope: refused*.

    Without out-of-scope rows, the one that accepts 95 % of the rows that are classified right.
    """
    best = probabilities.max(axis=1)
    right = np.array(classes)[probabilities.argmax(axis=1)] == labels
    outside = labels == OUT_OF_SCOPE
    found: dict[str, float | int] = {
        "rows": len(labels),
        "out_of_scope_rows": int(outside.sum()),
        "accuracy": round(float(right[~outside].mean()), 4),
    }
    if not outside.any():
        return round(float(np.quantile(best[right], 0.05)), 3), found
    grid = np.arange(1, 1000) / 1000
    kept = np.array([(right & (best >= at))[~outside].mean() for at in grid])
    refused = np.array([(best[outside] < at).mean() for at in grid])
    at = int(np.argmax(kept + refused))
    found |= {"right_and_accepted": round(float(kept[at]), 4), "refused": round(float(refused[at]), 4)}
    return float(grid[at]), found


def baselines(rows: Sequence[Row], bins: int = 20) -> Baselines:
    """What routers would do that count instead of reading: the majority task, and the majority by length."""
    inside = [row for row in rows if row.task != OUT_OF_SCOPE]
    lengths = np.array([len(row.text) for row in inside])
    edges = sorted(set(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:]).astype(int).tolist()))
    of_bin = np.searchsorted(edges, lengths)
    majority = Counter(row.task for row in inside).most_common(1)[0][0]
    by_length = [
        Counter(row.task for row, at in zip(inside, of_bin, strict=True) if at == i).most_common(1)
        for i in range(len(edges))
    ]
    return Baselines(
        majority=majority,
        lengths=tuple(edges),
        by_length=tuple(found[0][0] if found else majority for found in by_length),
    )


def as_sparse(words: Vocabulary, texts: Sequence[str]) -> sparse.csr_matrix:
    """The TF-IDF rows of texts, as scikit-learn takes them."""
    rows = words.rows(texts)
    return sparse.csr_matrix((rows.values, rows.columns, rows.starts), shape=(len(texts), len(words)))


def _check(rows: Sequence[Row]) -> None:
    counts = Counter(row.task for row in rows)
    if len(set(counts) - {OUT_OF_SCOPE}) < 2:
        raise InvalidRows(
            f"there are rows of {', '.join(sorted(counts))} only", remedy="give at least two tasks"
        )
    for task, count in counts.items():
        if count < MIN_ROWS:
            raise InvalidRows(
                f"the task {task} has {count} rows", remedy=f"give {MIN_ROWS} or more, better 50"
            )


def _fit(
    texts: Sequence[str], labels: NDArray[np.str_], options: Options
) -> tuple[Vocabulary, LogisticRegression]:
    words = learn(texts, options.orders, options.min_texts, options.largest)
    logistic = LogisticRegression(C=options.c, max_iter=1_000)
    return words, logistic.fit(as_sparse(words, texts), labels)


def _columns(logistic: LogisticRegression, order: Sequence[int]) -> tuple[Probabilities, Probabilities]:
    """Weights [n-grams, columns] and bias [columns]; scikit-learn has one row for two classes."""
    weights, bias = logistic.coef_, logistic.intercept_
    if len(weights) == 1:
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    return weights[order].T, bias[order]


def _unseen_logits(
    texts: Sequence[str], labels: NDArray[np.str_], columns: Sequence[str], options: Options
) -> Probabilities:
    """Logits [rows, columns] of every row, by a model trained without the row's group."""
    folds = group_folds(texts, labels, options)
    logits = np.full((len(texts), len(columns)), -30.0)
    for fold in range(options.folds):
        rest = np.flatnonzero(folds != fold).tolist()
        left_out = np.flatnonzero(folds == fold).tolist()
        if not left_out:
            continue
        words, logistic = _fit([texts[i] for i in rest], labels[rest], options)
        known = [column for column in columns if column in logistic.classes_]
        order = [list(logistic.classes_).index(column) for column in known]
        weights, bias = _columns(logistic, order)
        found = as_sparse(words, [texts[i] for i in left_out]) @ weights + bias
        logits[np.ix_(left_out, [columns.index(column) for column in known])] = found
    return logits


def group_folds(texts: Sequence[str], labels: NDArray[np.str_], options: Options) -> Ints:
    """A fold for every row, such that rows of one task that are alike share it (k-means over n-grams)."""
    words = learn(texts, options.orders, max(2, options.min_texts), 10_000)
    matrix = as_sparse(words, texts)
    width = max(2, min(50, matrix.shape[1] - 1, matrix.shape[0] - 1))
    places = TruncatedSVD(width, random_state=options.seed).fit_transform(matrix)
    folds = np.zeros(len(texts), dtype=np.int64)
    for task in sorted(set(labels.tolist())):
        rows = np.flatnonzero(labels == task)
        count = min(options.groups, max(options.folds, len(rows) // 10))
        groups = KMeans(count, n_init=1, random_state=options.seed).fit_predict(places[rows])
        load = np.zeros(options.folds)
        sizes = np.bincount(groups, minlength=count)
        for group in np.argsort(-sizes, kind="stable"):
            emptiest = int(load.argmin())
            load[emptiest] += sizes[group]
            folds[rows[groups == group]] = emptiest
    return folds


def _temperature(logits: Probabilities, labels: NDArray[np.str_], columns: Sequence[str]) -> float:
    """The temperature under which the probabilities of unseen wordings fit best (least log loss)."""
    truth = np.array([columns.index(label) for label in labels.tolist()])
    grid = np.geomspace(0.3, 5.0, 60)
    losses = [
        -np.log(softmax(logits / at)[np.arange(len(truth)), truth] + 1e-12).mean() for at in grid.tolist()
    ]
    return round(float(grid[int(np.argmin(losses))]), 3)
