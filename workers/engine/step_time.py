"""How long a step takes, learned from the steps that were run.

    seconds = (c0 + c1·rows + c2·prefill + c3·cells) · factor(rows + prefill)

The coefficients come from least squares with exponential forgetting, in the form that keeps the normal
equations (Haykin, Adaptive Filter Theory, chapter on recursive least squares): where e seconds are expected,
x = (1, rows, prefill, cells) / e and y = seconds / e,

    A ← λA + x·xᵀ        b ← λb + x·y        A·c = b, c ≥ 0

which needs no inverse, so nothing loses its symmetry or grows without bound where a kind of step stays
away; the coefficients follow by one projected Gauss-Seidel sweep a step from where they were (Lawson and
Hanson's problem, solved by coordinates). Dividing by e makes all errors relative: a step of 5 ms counts like
one of 500 ms.

What the plane leaves over is mostly the kernels' preference for some numbers of rows (llama.cpp has other
ones up to 8 rows than beyond): `factor` is the mean ratio between measured and linear time, one for each
power of two.

It knows numbers only: no clock, no engine.
"""

from __future__ import annotations

from math import inf, log2
from typing import Final

FORGET: Final = 0.998
"""λ: a step counts half after about 350 further ones."""
ENOUGH: Final = 48
"""Observations before a prediction is worth acting on."""
_FACTOR_GAIN: Final = 0.05
_SPREAD_GAIN: Final = 0.02
_CLIP: Final = 4.0
"""How many mean errors a measurement may stray before it is cut back."""
_LEAST_SPREAD: Final = 0.02
_ONE_SIDED: Final = 0.7
"""Mean side of the measurements beyond the edge (gain 0.05, so about 24 in a row) that says: another
machine now."""
_SIDE_GAIN: Final = 0.05
_KEPT: Final = 0.02
"""Share of what was learned that such a change leaves."""
_HOLD: Final = 0.02
"""A coefficient is held at its value with this share of the most information there was about it: a kind of
step that comes back after a long time corrects it, but no single one throws it over."""
_PEAK_DECAY: Final = 0.99999
_BUCKETS: Final = 12
_CELL_UNIT: Final = 1024.0
_SHORTEST: Final = 1e-9


class StepTime:
    """Predicts the seconds of one step; `observe` each one that was measured.

    `rows` are the rows of decoding sequences (one each, with logits), `prefill` the step's other rows.
    `cells` is what its attention reads: the sum over all rows of the context that the row attends to. In a
    unified memory every row passes over all cells in use, so there it is all rows times those (on the
    starter model a least-squares fit erred by 16 % in the median so, by 24 % with the contexts of the
    sequences themselves); in separate memories it is the sequences' own contexts.
    """

    def __init__(self) -> None:
        self._a = [[0.0] * 4 for _ in range(4)]
        self._b = [0.0] * 4
        self._c = [0.0] * 4
        self._peak = [0.0] * 4
        self._factors = [1.0] * (_BUCKETS + 1)
        self._spread = 0.2
        self._side = 0.0
        self.observations = 0

    @property
    def confident(self) -> bool:
        """Whether enough steps were seen to act on a prediction."""
        return self.observations >= ENOUGH

    @property
    def error(self) -> float:
        """Mean relative error of the predictions lately, outliers cut."""
        return self._spread

    @property
    def coefficients(self) -> tuple[float, float, float, float]:
        """Seconds a step, a decoding row, a prefilled row, a cell; none is negative."""
        c0, c1, c2, c3 = self._c
        return c0, c1, c2, c3 / _CELL_UNIT

    def predict(self, rows: int, prefill: int, cells: float) -> float:
        """Seconds of a step with these rows; 0.0 before the first observation."""
        return self._linear(rows, prefill, cells) * self._factor(rows + prefill)

    def observe(self, rows: int, prefill: int, cells: float, seconds: float) -> None:
        """Learn from a step that took `seconds`; one that is not positive and finite is no measurement."""
        if not 0.0 < seconds < inf:
            return
        linear = self._linear(rows, prefill, cells)
        weight = 1.0 / max(seconds, _SHORTEST)
        if self.confident:
            seconds = self._cut(seconds, linear * self._factor(rows + prefill))
            # by the expected time, not the measured one: else slow steps count less, and the fit is too fast
            weight = 1.0 / max(linear, _SHORTEST)
        self._accumulate(
            rows * weight, prefill * weight, cells / _CELL_UNIT * weight, weight, seconds * weight
        )
        self._sweep()
        self.observations += 1
        self._correct(rows + prefill, seconds, self._linear(rows, prefill, cells))

    def _linear(self, rows: float, prefill: float, cells: float) -> float:
        c0, c1, c2, c3 = self._c
        return c0 + c1 * rows + c2 * prefill + c3 * cells / _CELL_UNIT

    def _factor(self, n_rows: int) -> float:
        """Between the factors of the two neighbouring powers of two."""
        at = min(log2(n_rows), _BUCKETS - 0.001) if n_rows > 1 else 0.0
        low = int(at)
        return self._factors[low] + (at - low) * (self._factors[low + 1] - self._factors[low])

    def _cut(self, seconds: float, expected: float) -> float:
        """The measurement, moved to the edge of what is believable: a machine that paused taught us nothing.

        The edge moves out as long as measurements lie beyond it, and many in a row on one side wipe out
        most of what was learned: the machine has become another one (its clock is throttled, a neighbour
        has moved in).
        """
        expected = max(expected, _SHORTEST)
        edge = 1.0 + _CLIP * self._spread
        measured = seconds / expected
        ratio = min(max(measured, 1.0 / edge), edge)
        self._spread += _SPREAD_GAIN * (max(abs(ratio - 1.0), _LEAST_SPREAD) - self._spread)
        self._side += _SIDE_GAIN * ((measured > ratio) - (measured < ratio) - self._side)
        if abs(self._side) > _ONE_SIDED:
            self._side = 0.0
            self._scale(_KEPT)
        return ratio * expected

    def _scale(self, share: float) -> None:
        self._a = [[share * value for value in row] for row in self._a]
        self._b = [share * value for value in self._b]
        self._peak = [share * value for value in self._peak]

    def _accumulate(self, rows: float, prefill: float, cells: float, one: float, target: float) -> None:
        x = (one, rows, prefill, cells)
        b, peak = self._b, self._peak
        for i, xi in enumerate(x):
            row = self._a[i]
            for j, xj in enumerate(x):
                row[j] = FORGET * row[j] + xi * xj
            b[i] = FORGET * b[i] + xi * target
            peak[i] = max(_PEAK_DECAY * peak[i], row[i])

    def _sweep(self) -> None:
        c = self._c
        for i, row in enumerate(self._a):
            hold = _HOLD * self._peak[i]
            total = row[i] + hold
            if total > 0.0:
                slope = self._b[i] - (row[0] * c[0] + row[1] * c[1] + row[2] * c[2] + row[3] * c[3])
                c[i] = max(0.0, c[i] + slope / total)

    def _correct(self, n_rows: int, seconds: float, linear: float) -> None:
        if linear <= 0.0 or n_rows < 1:
            return
        at = min(round(log2(n_rows)), _BUCKETS)
        ratio = min(max(seconds / linear, 0.25), 4.0)
        self._factors[at] += _FACTOR_GAIN * (ratio - self._factors[at])
