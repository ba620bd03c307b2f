"""Folds for validation that keep rows alike together, so that what is left out is really unseen.

Random folds would put two wordings of one template on both sides, and promise a confidence that new texts
do not get. Needs scikit-learn.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD

from router.characters import Ints

_PLACES = 50


def group_folds(matrix: object, labels: NDArray[np.str_], folds: int, groups: int, seed: int) -> Ints:
    """A fold (0 … folds − 1) for every row of a sparse feature matrix.

    The rows of each task are split into up to `groups` groups by k-means, and whole groups are dealt out to
    the fold that has fewest rows of the task.
    """
    rows, columns = matrix.shape  # type: ignore[attr-defined]  # scipy ships no types
    width = max(1, min(_PLACES, columns - 1, rows - 1))
    places = TruncatedSVD(width, random_state=seed).fit_transform(matrix)
    found = np.zeros(rows, dtype=np.int64)
    for task in sorted(set(labels.tolist())):
        of_task = np.flatnonzero(labels == task)
        count = min(groups, max(folds, len(of_task) // 10), len(of_task))
        group_of = KMeans(count, n_init=1, random_state=seed).fit_predict(places[of_task])
        sizes = np.bincount(group_of, minlength=count)
        load = np.zeros(folds)
        for group in np.argsort(-sizes, kind="stable"):
            emptiest = int(load.argmin())
            load[emptiest] += sizes[group]
            found[of_task[group_of == group]] = emptiest
    return found
