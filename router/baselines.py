"""Routers that do not read: what any classifier must beat. Learned from the same rows."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from router.rows import OUT_OF_SCOPE, Row


class Baselines(BaseModel):
    """`majority` is the most frequent task. A text of up to `lengths[i]` characters (the last one: or more)
    is given the task `by_length[i]`, the most frequent one among texts of that length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    majority: str
    lengths: tuple[int, ...]
    by_length: tuple[str, ...]

    def guess_by_length(self, rows: Sequence[Row]) -> NDArray[np.str_]:
        """The task that the length of each text suggests."""
        at = np.searchsorted(self.lengths, [len(row.text) for row in rows])
        return np.array(self.by_length)[np.minimum(at, len(self.by_length) - 1)]


def learn_baselines(rows: Sequence[Row], bins: int = 20) -> Baselines:
    """The baselines of the rows in scope; lengths fall into up to `bins` bins of equally many rows."""
    inside = [row for row in rows if row.task != OUT_OF_SCOPE]
    lengths = np.array([len(row.text) for row in inside])
    edges = sorted(set(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:]).astype(int).tolist()))
    tasks: list[Counter[str]] = [Counter() for _ in edges]
    for row, at in zip(inside, np.searchsorted(edges, lengths).tolist(), strict=True):
        tasks[min(at, len(edges) - 1)][row.task] += 1
    majority = Counter(row.task for row in inside).most_common(1)[0][0]
    by_length = tuple(found.most_common(1)[0][0] if found else majority for found in tasks)
    return Baselines(majority=majority, lengths=tuple(edges), by_length=by_length)
